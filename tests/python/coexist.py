"""Loads libraries in the given order and uses each of them twice: coexist.py DIRECTORY [--global] NAME…

DIRECTORY has key.pem and certificate.pem, for TLS. --global loads with RTLD_GLOBAL. Prints the names of the libraries
that worked."""

import http.server
import io
import os
import ssl
import sys
import threading
from concurrent import futures
from ctypes import byref, c_bool, c_char_p, c_void_p

directory, *rest = sys.argv[1:]
names = [name for name in rest if name != "--global"]
certificate, key = f"{directory}/certificate.pem", f"{directory}/key.pem"
if "--global" in rest:
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)


class AnyBlob(http.server.BaseHTTPRequestHandler):
    """Answers that every blob exists."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("ETag", '"0x1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


def load_aztorch():
    import abi

    if "--global" in rest:
        # ctypes ignores sys.setdlopenflags.
        import ctypes

        ctypes.CDLL(os.environ["AZTORCH_LIBRARY"], mode=ctypes.RTLD_GLOBAL)
    options_new = abi.declare("azt_client_options_new", c_void_p)
    options_free = abi.declare("azt_client_options_free", None, c_void_p)
    set_anonymous = abi.fallible("azt_client_options_set_anonymous", c_void_p)
    set_ca_file = abi.fallible("azt_client_options_set_ca_file", c_void_p, c_char_p)

    def over_tls():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), AnyBlob)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options, client, found = c_void_p(options_new()), c_void_p(), c_bool()
        set_anonymous(options)
        set_ca_file(options, certificate.encode())
        abi.client_new(options, byref(client))
        url = f"https://127.0.0.1:{server.server_port}/account/container/blob"
        abi.exists(client, url.encode(), byref(found))
        assert found.value
        abi.client_free(client)
        options_free(options)
        server.shutdown()
        server.server_close()

    def work():
        data = os.urandom(3_000_000)
        abi.put("coexist", data)
        reader = abi.opened("coexist", abi.READ)
        assert abi.read_bytes(reader, len(data)) == data
        abi.free(reader)
        over_tls()

    return work


def load_torch():
    import torch

    def work():
        file, weights = io.BytesIO(), torch.rand(300, 300)
        torch.save({"weights": weights}, file)
        file.seek(0)
        assert torch.equal(torch.load(file)["weights"], weights)
        assert torch.allclose(weights @ torch.eye(300), weights)

    return work


def load_pyarrow():
    import pyarrow
    import pyarrow.fs
    import pyarrow.parquet

    def work():
        table, file = pyarrow.table({"number": range(100_000)}), pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, file, compression="zstd")
        assert pyarrow.parquet.read_table(pyarrow.BufferReader(file.getvalue())).equals(table)
        # pyarrow's client of S3, which contains a TLS library.
        try:
            pyarrow.fs.S3FileSystem(
                anonymous=True,
                endpoint_override="127.0.0.1:9",
                retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1),
            ).get_file_info("bucket/key")
        except OSError:
            pass
        else:
            raise AssertionError("a closed port answered")

    return work


def load_grpc():
    import grpc

    def echo(request, context):
        return request

    class Echo(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(echo)

    def work():
        with open(certificate, "rb") as chain, open(key, "rb") as private:
            chain, private = chain.read(), private.read()
        server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Echo()])
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(private, chain)]))
        server.start()
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(chain)) as channel:
            assert channel.unary_unary("/echo/Echo")(b"hello", timeout=30) == b"hello"
        server.stop(None)

    return work


load = {"aztorch": load_aztorch, "torch": load_torch, "pyarrow": load_pyarrow, "grpc": load_grpc}
work = {name: load[name]() for name in names}
# In the second round the threads of all libraries exist.
for _ in range(2):
    for name in names:
        work[name]()
for name in names:
    print(name)
