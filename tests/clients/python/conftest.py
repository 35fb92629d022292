"""What etcd3's own tests need to run today, on other ports than the default ones.

Where they ask for the default port they get the cluster under test. Their property tests use one
fixture for many examples, on purpose; newer versions of hypothesis take that for a mistake. Each
example starts etcdctl, so there are few of them.
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
