"""Adapts etcd3's own tests to present versions of their dependencies, and to ports other than 2379.

Clients of the default port connect to the cluster under test. The property tests use one fixture
for many examples on purpose, which newer versions of hypothesis reject. Each example starts
etcdctl, so their number is kept small.
"""

import os
from urllib.parse import urlparse

import etcd3
import hypothesis

_url = urlparse(os.environ["PYTHON_ETCD_HTTP_URL"])
etcd3.client.__defaults__ = (_url.hostname, _url.port) + etcd3.client.__defaults__[2:]

_init = hypothesis.settings.__init__


def _lenient(self, *args, **kwargs):
    kwargs.setdefault("max_examples", int(os.environ.get("CLIENTS_EXAMPLES", "5")))
    kwargs.setdefault("suppress_health_check", list(hypothesis.HealthCheck))
    _init(self, *args, **kwargs)


hypothesis.settings.__init__ = _lenient
