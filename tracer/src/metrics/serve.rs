//! Who asks for `/metrics` gets it. Bounded in every way: connections, bytes,
//! time; one request each.

use std::{
    collections::VecDeque, convert::Infallible, net::TcpListener as Bound, sync::Arc, thread,
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::source::Source;

/// Connections at a time. The oldest makes room for the next: whoever only holds
/// connections open cannot keep a scrape away.
const CONNECTIONS: usize = 16;

/// How long one may take, from first to last byte.
const LIMIT: Duration = Duration::from_secs(10);

/// Bytes of a request's head; hyper takes no less.
const REQUEST: usize = 8 * 1024;

/// After an accept() that failed, for want of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

const OPEN_METRICS: &str = "application/openmetrics-text";

/// Answers at this address until the process ends.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(listener: Bound, source: Arc<Mutex<Source>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime for metrics cannot be started")?;
    thread::Builder::new()
        .name("tracer-metrics".into())
        .spawn(move || runtime.block_on(serve(listener, source)))
        .context("the thread for metrics cannot be started")?;
    Ok(())
}

async fn serve(listener: Bound, source: Arc<Mutex<Source>>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let source = Arc::clone(&source);
        let connection = tokio::spawn(async move {
            // An error: it was slow, went away, or spoke something else.
            let _ = timeout(LIMIT, converse(stream, source)).await;
        });
        open.push_back(connection.abort_handle());
    }
}

async fn converse(stream: TcpStream, source: Arc<Mutex<Source>>) -> hyper::Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LIMIT)
        .max_buf_size(REQUEST)
        .keep_alive(false)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| answer(request, Arc::clone(&source))),
        )
        .await
}

async fn answer(
    request: Request<Incoming>,
    source: Arc<Mutex<Source>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return Ok(response);
    }
    let told = source.lock().await.tell().await;
    Ok(match told {
        None => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "tracer does not answer: it is ending, or nobody reads its output\n",
        ),
        Some(told) if wants_open_metrics(request.headers()) => response(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            told.open_metrics.clone(),
        ),
        Some(told) => response(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            told.classic.clone(),
        ),
    })
}

fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(OPEN_METRICS))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpStream},
    };

    use super::*;
    use tokio::sync::mpsc;

    use crate::{
        metrics::{Counted, Question, look::Looker, source::FRESH, tally::Tally},
        record::Totals,
    };

    /// A server; `answers`: whether somebody traces.
    fn server(answers: bool) -> Result<SocketAddr> {
        let listener = Bound::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (asked, mut questions) = mpsc::channel::<Question>(1);
        let source = Source::new(asked, Vec::new(), Looker::start()?, None);
        start(listener, Arc::new(Mutex::new(source)))?;
        thread::spawn(move || {
            while let Some(question) = questions.blocking_recv() {
                let _ = question.0.send(Counted {
                    totals: Totals::example(),
                    tally: Tally::default(),
                });
                if !answers {
                    return;
                }
            }
        });
        Ok(address)
    }

    fn ask(address: SocketAddr, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        // It may close before it has read all.
        let _ = stream.read_to_end(&mut answer);
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    #[test]
    fn what_is_asked_is_answered() -> Result<()> {
        let address = server(true)?;
        let long = "x".repeat(2 * REQUEST);
        let open_metrics = format!("GET /metrics HTTP/1.1\r\nAccept: {OPEN_METRICS}\r\n\r\n");
        for (request, status, word) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", "200", "\ntracer_up 1\n"),
            (
                "GET /metrics?x=y HTTP/1.0\r\n\r\n",
                "200",
                "text/plain; version=0.0.4",
            ),
            (&open_metrics, "200", "\n# EOF\n"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "200", "content-length: "),
            ("GET / HTTP/1.1\r\n\r\n", "404", "/metrics"),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", "404", "/metrics"),
            (
                "POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
                "405",
                "allow: GET, HEAD",
            ),
            (
                &format!("GET /metrics HTTP/1.1\r\nX: {long}\r\n\r\n"),
                "431",
                "",
            ),
            ("nonsense\r\n\r\n", "400", ""),
        ] {
            let answer = ask(address, request)?;
            let told = answer.split(' ').nth(1);
            assert!(
                told == Some(status) && answer.contains(word),
                "{request}: {answer}"
            );
        }
        let head = ask(address, "HEAD /metrics HTTP/1.1\r\n\r\n")?;
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        Ok(())
    }

    /// Whoever holds connections open, with half a request or none, keeps no
    /// scrape away, and is thrown out.
    #[test]
    fn slow_clients_are_in_nobodys_way() -> Result<()> {
        let address = server(true)?;
        let mut slow = Vec::new();
        for number in 0..4 * CONNECTIONS {
            let mut stream = TcpStream::connect(address)?;
            if number % 2 == 0 {
                stream.write_all(b"GET /metrics HT")?;
            }
            slow.push(stream);
        }
        let begun = std::time::Instant::now();
        let answer = ask(address, "GET /metrics HTTP/1.1\r\n\r\n")?;
        assert!(
            answer.contains(" 200 ") && begun.elapsed() < LIMIT / 2,
            "{answer}"
        );
        // All but those that there is room for have been closed, and in the end these too.
        let closed = |stream: &mut TcpStream| {
            stream.set_read_timeout(Some(LIMIT + LIMIT)).is_ok()
                && !matches!(stream.read(&mut [0; 1024]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        };
        assert!(slow.iter_mut().all(closed));
        assert!(begun.elapsed() < LIMIT * 3 / 2, "{:?}", begun.elapsed());
        Ok(())
    }

    #[test]
    fn when_nobody_traces_that_is_said() -> Result<()> {
        let address = server(false)?;
        let scrape = || ask(address, "GET /metrics HTTP/1.1\r\n\r\n");
        assert!(scrape()?.contains(" 200 "));
        thread::sleep(FRESH);
        assert!(scrape()?.contains(" 503 "));
        Ok(())
    }
}
