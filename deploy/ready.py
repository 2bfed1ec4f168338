"""The health check of a container: exit 0 if the process on this port says that it is ready."""

import http.client
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=2)
connection.request("GET", "/ready")
sys.exit(connection.getresponse().status != 200)
