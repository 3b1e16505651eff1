"""From the context that a program has to a config of ours."""

import ssl

from trio_tls import ClientConfig


def config_from(context: ssl.SSLContext) -> ClientConfig:
    try:
        return ClientConfig.from_ssl_context(context)
    except ValueError as error:
        # All that cannot be carried over, with names. Having read it, go
        # without what is not needed.
        print(error)
        return ClientConfig.from_ssl_context(context, without=["TLS 1.2"])
