//! One HTTP/1.1 request over a connection the caller made, with a bounded answer.

use super::words::chain;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{ACCEPT, CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use std::future::{Future, pending};
use tokio::io::{AsyncRead, AsyncWrite};

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the request cannot be written: {0}")]
    Request(String),
    #[error("what answered does not speak HTTP, or stopped half-way: {0}")]
    Exchange(String),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Status, headers and the body up to a limit.
pub(super) type Answer = Response<Bytes>;

/// Sends `method path` with `Host: host` and reads the whole answer. Bounded in size; the caller bounds the time.
pub(super) async fn ask<S>(stream: S, method: Method, host: &str, path: &str, limit: usize) -> Result<Answer, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(stream, request(method, host, path)?, limit).await
}

/// Sends a [`request`] and reads the whole answer, as [`ask`] does.
pub(super) async fn send<S>(stream: S, request: Request<Empty<Bytes>>, limit: usize) -> Result<Answer, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    with(stream, request, async |response| {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { HttpError::TooLong(limit) } else { HttpError::Exchange(chain(&*error)) }
        })?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    })
    .await
}

/// As [`ask`], but only the status and the headers; the body is left on the wire.
pub(super) async fn ask_head<S>(stream: S, method: Method, host: &str, path: &str) -> Result<Response<()>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(method, host, path)?;
    with(stream, request, async |response| Ok(response.map(drop))).await
}

/// A request without a body, after whose answer the connection ends.
pub(super) fn request(method: Method, host: &str, path: &str) -> Result<Request<Empty<Bytes>>, HttpError> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("hostagent/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| HttpError::Request(error.to_string()))
}

async fn with<S, T, F>(
    stream: S,
    request: Request<Empty<Bytes>>,
    read: impl FnOnce(Response<Incoming>) -> F,
) -> Result<T, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<T, HttpError>>,
{
    let broken = |error: hyper::Error| HttpError::Exchange(chain(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let exchange = async { read(sender.send_request(request).await.map_err(broken)?).await };
    // The connection only carries the exchange: when it ends, the exchange still has its answer or its error to give.
    let carrier = async {
        let _ = connection.await;
        pending().await
    };
    tokio::select! {
        answer = exchange => answer,
        never = carrier => never,
    }
}
