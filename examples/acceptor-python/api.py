"""A small HTTP API that asks Mayfly about each request before it does anything.

    MAYFLY_BROKER  host:port            MAYFLY_CERTS  the directory of `mayfly acceptor issue --out`
    API_URL        this API's origin as callers write it, without a path (proofs are for it)
    LISTEN_PORT    on 127.0.0.1, behind what ends TLS
"""

import http.server
import json
import os
import pathlib

import grpc
from mayfly.v1 import acceptor_pb2, acceptor_pb2_grpc

CERTS = pathlib.Path(os.environ["MAYFLY_CERTS"])


def mayfly():
    """A stub that presents this acceptor's certificate and knows the broker by the CA beside it.

    Made for each question: the certificate lives for a day and is replaced in its file. A busy service keeps the
    stub, and makes a new one when the file changes.
    """
    pem = [(CERTS / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem")]
    channel = grpc.secure_channel(os.environ["MAYFLY_BROKER"], grpc.ssl_channel_credentials(*pem))
    return channel, acceptor_pb2_grpc.AcceptorServiceStub(channel)


def judge(method, path, headers):
    """Whether to accept the request: the broker's answer, or the reason why there is none.

    It fails closed: no answer in time is a refusal. An answer is for this request only and is never kept.
    """
    scheme, _, token = (headers.get("Authorization") or "").partition(" ")
    if scheme.lower() != "dpop" or len(headers.get_all("DPoP") or []) != 1:
        return None, "PROOF_MISSING"
    channel, stub = mayfly()
    question = acceptor_pb2.CheckRequest(
        token=token, dpop=headers["DPoP"], method=method, url=os.environ["API_URL"] + path
    )
    with channel:
        try:
            answer = stub.Check(question, timeout=2)
        except grpc.RpcError as error:
            return None, f"UNAVAILABLE ({error.code().name})"
    return (answer, "") if answer.accepted else (None, answer.reason)


class Api(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        answer, reason = judge("POST", self.path, self.headers)
        if answer is None:
            self.answer(503 if reason.startswith("UNAVAILABLE") else 401, {"refused": reason})
        elif "deploy:write" not in answer.scopes:
            self.answer(403, {"refused": "scope"})
        else:
            self.answer(201, {"deployed for": answer.workload, "task": answer.task, "owners": list(answer.owners)})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'DPoP error="invalid_token"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    port = int(os.environ.get("LISTEN_PORT", "8000"))
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Api).serve_forever()
