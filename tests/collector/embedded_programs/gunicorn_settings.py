"""Settings of gunicorn for the tests; versions that do not know one ignore it."""

control_socket_disable = True
