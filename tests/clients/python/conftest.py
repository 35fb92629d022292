"""What etcd3's own tests need to run today, on other ports.

Where they ask for the default port they get the cluster under test. Their property tests use a
fixture for many examples, on purpose; newer versions of hypothesis take that for a mistake.
"""

import os
from urllib.parse import urlparse

import etcd3
import hypothesis

_url = urlparse(os.environ["PYTHON_ETCD_HTTP_URL"])
etcd3.client.__defaults__ = (_url.hostname, _url.port) + etcd3.client.__defaults__[2:]

_register = hypothesis.settings.register_profile


def _lenient(name, *args, **kwargs):
    kwargs["suppress_health_check"] = list(hypothesis.HealthCheck)
    _register(name, *args, **kwargs)


hypothesis.settings.register_profile = _lenient
