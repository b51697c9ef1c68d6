//! A web site on loopback: pages for the browser, and what it asked for besides.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Served until this program ends.
#[derive(Debug)]
pub(super) struct Site {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What a path shows.
pub(super) type Pages = BTreeMap<String, String>;

impl Site {
    pub(super) fn new(pages: Pages) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port on loopback")?;
        let address = listener.local_addr()?;
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (pages, log) = (Arc::new(pages), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Browsers open connections that they do not use yet: each
                // gets a thread, so that none keeps another waiting.
                let (pages, log) = (Arc::clone(&pages), Arc::clone(&log));
                thread::spawn(move || serve(stream, &pages, &log));
            }
        });
        Ok(Self { address, asked })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every path asked for since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *asked)
    }
}

fn serve(mut stream: TcpStream, pages: &Pages, log: &Mutex<Vec<String>>) -> Option<()> {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    // The rest of the request says nothing.
    while !lines.next()?.ok()?.is_empty() {}
    let (status, page) = match pages.get(&path) {
        Some(page) => ("200 OK", page.as_str()),
        None => ("404 Not Found", ""),
    };
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(path);
    let length = page.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(page.as_bytes()).ok()
}
