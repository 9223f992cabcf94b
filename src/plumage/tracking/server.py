"""An MLflow server: its address without credentials, and one request that tells whether it can be used.

The request goes through MLflow's own client, so certificates, credentials, proxies and plugins work as they do for MLflow.
"""

import os
import ssl
import warnings
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

# Who sets MLFLOW_TRACKING_INSECURE_TLS knows; urllib3 would say so at every request.
warnings.filterwarnings("ignore", category=urllib3.exceptions.InsecureRequestWarning)

TIMEOUT_SECONDS = 10
EXPERIMENTS = "/api/2.0/mlflow/experiments/search"
MODELS = "/api/2.0/mlflow/registered-models/search"
"""What MLflow's API answers with the experiments, or the registered models, of a server."""
CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def is_server(uri: str) -> bool:
    """Whether a store's URI is the address of a server."""
    return urlsplit(uri).scheme in ("http", "https")


def address(uri: str) -> str:
    """The address of a server without credentials and without a slash at its end."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def use_credentials(uri: str) -> None:
    """Hand user and password of a server's URI to MLflow, for the rest of this process.

    MLflow prints and stores URIs and names them in its errors, but never the variables.
    """
    parts = urlsplit(uri)
    for name, value in (("USERNAME", parts.username), ("PASSWORD", parts.password)):
        if is_server(uri) and value:
            os.environ[f"MLFLOW_TRACKING_{name}"] = unquote(value)


def check_server(uri: str, endpoint: str = EXPERIMENTS) -> None:
    """Send the server at `uri` one request that needs its database and, if it asks for some, credentials.

    MLflow itself retries for minutes before it fails.

    Raises:
        MlflowException: the server can't be reached, refuses the credentials, or is no MLflow server. One line.
    """
    try:
        creds = get_default_host_creds(uri)
        response = http_request(
            creds, endpoint, "GET", params={"max_results": 1}, max_retries=0, timeout=TIMEOUT_SECONDS,
            raise_on_status=False,
        )  # fmt: skip
    except MlflowException as error:
        raise MlflowException(_why_unreachable(error)) from None
    if reason := _why_refused(response):
        raise MlflowException(f"HTTP {response.status_code}: {reason}")


def _why_refused(response: requests.Response) -> str | None:
    """What is wrong with the server's answer; None if nothing is, or it only asks to wait."""
    match response.status_code:
        case HTTPStatus.UNAUTHORIZED:
            return f"the server accepts no such user, password or token; check {CREDENTIALS}"
        case HTTPStatus.FORBIDDEN:
            return f"the server allows this user nothing; check {CREDENTIALS}"
        case HTTPStatus.NOT_FOUND:
            return "no MLflow server at this address; check its path"
        case HTTPStatus.TOO_MANY_REQUESTS:
            return None
    try:
        answer = dict(response.json())
    except (ValueError, TypeError):
        return "the answer is not an MLflow server's; check the address" if response.ok else response.reason
    return None if response.ok else str(answer.get("message", response.reason))


def _why_unreachable(error: MlflowException) -> str:
    """The reason in the middle of the exceptions that requests and urllib3 wrap around it."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, requests.exceptions.ProxyError):
        return "its proxy can't be reached; check HTTP_PROXY and HTTPS_PROXY, or list the host in NO_PROXY"
    reason = _innermost(cause) if isinstance(cause, requests.ConnectionError) else cause
    if isinstance(reason, (TimeoutError, requests.Timeout)):
        return f"no answer for {TIMEOUT_SECONDS} s"
    if isinstance(reason, ssl.SSLCertVerificationError):
        hint = "; MLFLOW_TRACKING_SERVER_CERT_PATH takes the PEM file of the authority that issued it"
        return f"its certificate can't be verified: {reason.verify_message}{hint if _unknown_issuer(reason) else ''}"
    return str(reason or error)


def _unknown_issuer(error: ssl.SSLCertVerificationError) -> bool:
    """Whether the certificate was issued by itself or by an authority that is not known here (OpenSSL's X509_V_ERR_*)."""
    return error.verify_code in (18, 19, 20, 21)


def _innermost(error: BaseException) -> BaseException:
    """The exception that `error` was raised for, as requests and urllib3 nest them."""
    around = (*error.args, getattr(error, "reason", None), error.__cause__)
    inner = next((part for part in around if isinstance(part, Exception)), None)
    return _innermost(inner) if inner else error
