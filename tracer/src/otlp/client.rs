//! One request to a receiver, and what it says: OTLP over HTTP/1.1, as the
//! specification of OTLP (1.x) wants it read.

use std::time::Duration;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::endpoint::Endpoint;
use crate::output::sanitize::printable;

/// From connecting to the last byte of the answer; what the specification proposes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer; nobody needs more to say what was wrong.
const ANSWER: usize = 64 * 1024;

/// Bytes of an answer that are shown.
const SHOWN: usize = 200;

/// What a receiver says.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// It has them; the body may say which it does not want.
    Taken(Bytes),
    /// Not now, but later, after this time if it says so.
    Later(String, Option<Duration>),
    /// Never.
    Refused(String),
}

/// Sends one signal.
pub(super) struct Client {
    endpoint: Endpoint,
    path: String,
    /// Used again and again, while the receiver leaves it open.
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint, signal: &str) -> Self {
        Self {
            endpoint: endpoint.clone(),
            path: endpoint.path(signal),
            connection: None,
        }
    }

    /// Sends once. Safe to cancel: the connection is closed then.
    pub(super) async fn post(&mut self, body: Bytes) -> Answer {
        match timeout(PATIENCE, self.attempts(body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Later(format!("{error:#}"), None),
            Err(_) => Answer::Later(format!("no answer within {} s", PATIENCE.as_secs()), None),
        }
    }

    async fn attempts(&mut self, body: Bytes) -> Result<Answer> {
        if let Some(connection) = self.connection.take()
            && let Ok(answer) = self.attempt(connection, body.clone()).await
        {
            return Ok(answer);
        }
        // A receiver may close what was idle, at any moment: that is no failure.
        let connection = self.connect().await?;
        self.attempt(connection, body).await
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        // An error of it is one of the request, too.
        tokio::spawn(driver);
        Ok(connection)
    }

    async fn attempt(
        &mut self,
        mut connection: SendRequest<Full<Bytes>>,
        body: Bytes,
    ) -> Result<Answer> {
        connection.ready().await?;
        let request = Request::post(&self.path)
            .header(HOST, &self.endpoint.authority)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, concat!("tracer/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))?;
        let response = connection.send_request(request).await?;
        let answer = read(response).await?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer> {
    let (head, body) = response.into_parts();
    let after = head.headers.get(RETRY_AFTER);
    let after = after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
    let body = Limited::new(body, ANSWER).collect().await;
    let body = body.map_err(|error| anyhow!("its answer cannot be read: {error}"))?;
    let body = body.to_bytes();
    Ok(judge(head.status, after.map(Duration::from_secs), body))
}

/// Which answers mean what is said in the specification.
fn judge(status: StatusCode, after: Option<Duration>, body: Bytes) -> Answer {
    if status.is_success() {
        return Answer::Taken(body);
    }
    let why = match text(&body) {
        Some(text) => format!("it answers {status}: {text}"),
        None => format!("it answers {status}"),
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Answer::Later(why, after),
        _ => Answer::Refused(why),
    }
}

/// What people can read of an answer: some receivers write protobuf, others text.
fn text(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_text = !text.is_empty() && !text.starts_with(|c: char| c.is_control());
    let line = text.lines().next().unwrap_or_default();
    let line = &line[..line.floor_char_boundary(SHOWN)];
    is_text.then(|| printable(line.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_specification_says() {
        let judged = |status: u16, body: &'static str| {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            let after = Some(Duration::from_secs(7));
            match judge(status, after, Bytes::from_static(body.as_bytes())) {
                Answer::Taken(_) => "taken".to_owned(),
                Answer::Later(why, after) => format!("later: {why} {after:?}"),
                Answer::Refused(why) => format!("refused: {why}"),
            }
        };
        for (status, body, meaning) in [
            (200, "", "taken"),
            (202, "x", "taken"),
            (429, "", "later: it answers 429 Too Many Requests Some(7s)"),
            (502, "", "later: it answers 502 Bad Gateway Some(7s)"),
            (
                503,
                "full\nup",
                "later: it answers 503 Service Unavailable: full Some(7s)",
            ),
            (504, "", "later: it answers 504 Gateway Timeout Some(7s)"),
            (
                400,
                "no \u{1b}[2J",
                "refused: it answers 400 Bad Request: no \\x1b[2J",
            ),
            (404, "", "refused: it answers 404 Not Found"),
            (
                500,
                "\u{8}\u{d}",
                "refused: it answers 500 Internal Server Error",
            ),
            (301, "", "refused: it answers 301 Moved Permanently"),
        ] {
            assert_eq!(judged(status, body), meaning, "{status}");
        }
    }
}
