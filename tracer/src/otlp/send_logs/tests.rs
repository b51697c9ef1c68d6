//! Log records against receivers that take them, refuse them, or are not there.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc as blocking,
    thread,
};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;
use tokio::sync::mpsc;

use super::*;
use crate::otlp::{delivery::Account, endpoint};

/// What a receiver does with one request.
#[derive(Clone)]
enum Reply {
    /// Answers with this status and body.
    Says(&'static str, Vec<u8>),
    /// The same, and closes the connection.
    SaysAndCloses(&'static str),
    /// Reads, and closes the connection without a word.
    Hangs,
}

fn ok() -> Reply {
    Reply::Says("200 OK", Vec::new())
}

/// Answers as told, each request in its turn, the last way for ever; where, and the
/// severity texts of what it took.
fn receiver(replies: Vec<Reply>) -> Result<(SocketAddr, blocking::Receiver<Vec<String>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (tell, told) = blocking::channel();
    thread::spawn(move || {
        let mut replies = replies.into_iter().peekable();
        let mut last = ok();
        while let Ok((stream, _)) = listener.accept() {
            let mut stream = BufReader::new(stream);
            while let Some(request) = read(&mut stream) {
                last = replies.next().unwrap_or(last);
                if answer(stream.get_mut(), &last).is_none() {
                    break;
                }
                let is_taken = matches!(&last, Reply::Says(status, _) | Reply::SaysAndCloses(status) if status.starts_with('2'));
                if is_taken && tell.send(names(&request)).is_err() {
                    return;
                }
                if matches!(last, Reply::SaysAndCloses(_)) {
                    break;
                }
            }
        }
    });
    Ok((address, told))
}

/// The body of a request that is as it should be.
fn read(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let is_right = head.starts_with("post /base/v1/logs http/1.1\r\n")
        && head.contains("\r\ncontent-type: application/x-protobuf\r\n");
    let (_, length) = head.split_once("\r\ncontent-length: ")?;
    let length = length.lines().next()?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    is_right.then_some(body)
}

fn answer(stream: &mut TcpStream, reply: &Reply) -> Option<()> {
    let (status, body) = match reply {
        Reply::Says(status, body) => (status, body.as_slice()),
        Reply::SaysAndCloses(status) => (status, &[][..]),
        Reply::Hangs => return None,
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()
}

fn names(request: &[u8]) -> Vec<String> {
    let request = ExportLogsServiceRequest::decode(request).unwrap_or_default();
    let resources = request.resource_logs.into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_logs);
    let logs = scopes.flat_map(|scope| scope.log_records);
    logs.map(|log| log.severity_text).collect()
}

/// What became of so many records that are sent there one after the other, each a
/// batch of its own if `apart`.
fn account(address: SocketAddr, count: u64, apart: bool, expiry: Duration) -> Result<Account> {
    let endpoint = endpoint(&format!("http://{address}/base")).map_err(anyhow::Error::msg)?;
    let (queue, queued) = mpsc::unbounded_channel();
    let (_ending, is_ending) = watch::channel(true);
    let delivery = Arc::new(Delivery::default());
    let mut logs = Logs {
        queue: queued,
        client: Client::new(&endpoint, "logs"),
        from: Resource::default(),
        delivery: Arc::clone(&delivery),
        trouble: Trouble::new("logs", "there"),
        ending: is_ending,
        expiry,
    };
    let mut waiting = Vec::new();
    for _ in 0..count {
        let log = LogRecord {
            severity_text: delivery.offer().to_string(),
            ..LogRecord::default()
        };
        // As if they were that long.
        let bytes = if apart { BYTES } else { 1 };
        delivery.take_room(bytes);
        waiting.push(Waiting { log, bytes });
    }
    for one in waiting {
        queue.send(one).ok().context("nobody sends")?;
    }
    drop(queue);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(logs.send());
    // All room is free again.
    delivery.take_room(super::super::delivery::ROOM - 1);
    assert!(delivery.has_room());
    Ok(delivery.account())
}

const LONG: Duration = Duration::from_secs(60);

fn told(taken: u64, refused: u64, expired: u64) -> Account {
    Account {
        offered: taken + refused + expired,
        taken,
        no_room: 0,
        refused,
        expired,
    }
}

#[test]
fn what_is_sent_arrives_once() -> Result<()> {
    let (address, arrived) = receiver(vec![ok()])?;
    assert_eq!(account(address, 5, false, LONG)?, told(5, 0, 0));
    assert_eq!(arrived.recv()?, ["1", "2", "3", "4", "5"]);
    assert!(arrived.try_recv().is_err());
    Ok(())
}

/// Whatever goes wrong on the way, and in which order.
#[test]
fn what_did_not_arrive_is_sent_again() -> Result<()> {
    let replies = vec![
        Reply::Says("503 Service Unavailable", Vec::new()),
        Reply::Hangs,
        Reply::Says("429 Too Many Requests", Vec::new()),
        Reply::SaysAndCloses("200 OK"),
        ok(),
    ];
    let (address, arrived) = receiver(replies)?;
    assert_eq!(account(address, 3, true, LONG)?, told(3, 0, 0));
    for one in ["1", "2", "3"] {
        assert_eq!(arrived.recv()?, [one]);
    }
    Ok(())
}

#[test]
fn what_is_refused_is_counted() -> Result<()> {
    let replies = vec![
        Reply::Says("400 Bad Request", b"no".to_vec()),
        ok(),
        Reply::Says("301 Moved Permanently", Vec::new()),
    ];
    let (address, arrived) = receiver(replies)?;
    assert_eq!(account(address, 4, true, LONG)?, told(1, 3, 0));
    assert_eq!(arrived.recv()?, ["2"]);
    Ok(())
}

#[test]
fn what_is_rejected_of_a_batch_is_counted() -> Result<()> {
    let partial = |rejected_log_records| {
        let partial_success = Some(ExportLogsPartialSuccess {
            rejected_log_records,
            error_message: "too old".to_owned(),
        });
        Reply::Says(
            "200 OK",
            ExportLogsServiceResponse { partial_success }.encode_to_vec(),
        )
    };
    for (rejected, expected) in [(0, 0), (2, 2), (99, 5), (-1, 0)] {
        let (address, _arrived) = receiver(vec![partial(rejected)])?;
        let account = account(address, 5, false, LONG)?;
        assert_eq!(account, told(5 - expected, expected, 0), "{rejected}");
    }
    Ok(())
}

/// Nobody listens there.
#[test]
fn a_receiver_that_is_not_there_is_waited_for_and_not_for_ever() -> Result<()> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let begun = std::time::Instant::now();
    let account = account(address, 2, true, Duration::from_millis(700))?;
    assert_eq!(account, told(0, 0, 2));
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    Ok(())
}
