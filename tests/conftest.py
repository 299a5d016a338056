"""Here so that the modules beside it can be imported by every test."""
