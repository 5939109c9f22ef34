"""Verifies an access token as a service in another language would: PyJWT, and the key set over HTTPS.

Usage: verify_token.py ISSUER AUDIENCE CA_FILE, the token on standard input. Prints header and claims.
"""

import json
import ssl
import sys
import urllib.request

import jwt

issuer, audience, ca_file = sys.argv[1:]
token = sys.stdin.read().strip()

tls = ssl.create_default_context(cafile=ca_file)
with urllib.request.urlopen(issuer + "/.well-known/jwks.json", context=tls, timeout=10) as answer:
    keys = jwt.PyJWKSet.from_dict(json.load(answer)).keys

header = jwt.get_unverified_header(token)
(key,) = (key.key for key in keys if key.key_id == header["kid"])
claims = jwt.decode(
    token,
    key,
    algorithms=["ES256", "EdDSA"],
    issuer=issuer,
    audience=audience,
    options={"require": ["iss", "aud", "sub", "exp", "iat", "jti", "client_id"]},
)
json.dump({"header": header, "claims": claims}, sys.stdout)
