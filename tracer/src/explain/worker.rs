//! Takes censuses on a thread of its own: reading every socket of a host takes
//! a fraction of a second, in which events go on.

use std::{
    collections::HashMap,
    io,
    rc::Rc,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    advice,
    census::{Scope, Who, account},
    closers::{Closers, Recalled},
    finding::{BoundUnused, Census, QueueFinding},
    ghosts, neighbours,
    owners::{Holders, Owners},
    queue::Draft,
    snapshot::{self, Snapshot},
};
use crate::{
    attribute::process::Processes,
    host::{
        memory, netns, settings,
        sock_diag::{Protocol, Row},
    },
    model::{Netns, Process},
};

/// Snapshots take at most one part in this many of one processor: the next one
/// waits for that.
const SHARE: u32 = 10;

/// A finding that is wanted.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) about: About,
    /// After the failure: a snapshot from before that would not explain it.
    pub(crate) asked: Instant,
}

#[derive(Debug)]
pub(crate) enum About {
    /// A census under this number.
    Census(u64, Scope),
    /// What the host adds to a finding about a queue.
    Queue(Box<Draft>),
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Answer {
    Census(Box<Census>),
    /// It cannot be taken, and why.
    NoCensus(u64, Scope, String),
    Queue(Box<QueueFinding>),
}

/// The thread, seen from outside.
pub(crate) struct Worker {
    requests: Sender<Request>,
    answers: UnboundedReceiver<Answer>,
    outstanding: usize,
}

impl Worker {
    /// `closers`: `None` if nobody watches who closes.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(closers: Option<Arc<Closers>>) -> Result<Self> {
        let (requests, incoming) = mpsc::channel();
        let (outgoing, answers) = unbounded_channel();
        thread::Builder::new()
            .name("tracer-census".into())
            .spawn(move || work(closers, &incoming, &outgoing))
            .context("the thread for censuses cannot be started")?;
        Ok(Self {
            requests,
            answers,
            outstanding: 0,
        })
    }

    /// Asks for a census.
    pub(crate) fn ask(&mut self, request: Request) {
        if self.requests.send(request).is_ok() {
            self.outstanding += 1;
        }
    }

    /// How many answers are still to come.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The next answer; waits for ever if none is to come. Safe to cancel.
    pub(crate) async fn answer(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => {
                self.outstanding = self.outstanding.saturating_sub(1);
                answer
            }
            None => std::future::pending().await,
        }
    }
}

fn work(
    closers: Option<Arc<Closers>>,
    requests: &Receiver<Request>,
    answers: &UnboundedSender<Answer>,
) {
    let mut census_taker = CensusTaker {
        closers,
        processes: Processes::new(),
        views: HashMap::new(),
        next: Instant::now(),
    };
    // Ends when the other side of either channel is gone.
    while let Ok(request) = requests.try_recv().or_else(|_| {
        // A view serves only those who wait for it.
        census_taker.views.clear();
        memory::give_back();
        requests.recv()
    }) {
        if answers.send(census_taker.answer(request)).is_err() {
            return;
        }
    }
}

/// IP protocol number.
const TCP: u16 = 6;

/// A namespace as it was a moment ago.
struct View {
    snapshot: Snapshot,
    holders: Holders,
    closers: Option<Recalled>,
    time: Timestamp,
    begun: Instant,
}

struct CensusTaker {
    closers: Option<Arc<Closers>>,
    processes: Processes,
    views: HashMap<(Netns, u16), Rc<View>>,
    /// When the next snapshot may be taken.
    next: Instant,
}

impl CensusTaker {
    fn answer(&mut self, request: Request) -> Answer {
        let Request { about, asked } = request;
        match about {
            About::Census(id, scope) => match self.census(id, &scope, asked) {
                Ok(census) => Answer::Census(Box::new(census)),
                Err(error) => Answer::NoCensus(id, scope, error.to_string()),
            },
            About::Queue(draft) => Answer::Queue(Box::new(self.queue(*draft, asked))),
        }
    }

    /// Adds what the namespace shows, as far as it still can be looked into.
    fn queue(&mut self, draft: Draft, asked: Instant) -> QueueFinding {
        let Draft { mut finding, acked } = draft;
        if acked.is_empty() {
            let settings = netns::inside_of(finding.life(), || Ok(settings::read()));
            finding.settings = settings.unwrap_or_default();
        } else if let Ok(view) = self.view(finding.life(), TCP, asked)
            && let Some(local) = finding.local
        {
            finding.settings = view.snapshot.settings.clone();
            let retries = finding.settings.synack_retries;
            let rows = &view.snapshot.rows;
            let begun = Instant::now();
            let peers = ghosts::wanted(rows, local, &acked);
            let neighbours = neighbours::look(finding.netns, &peers);
            let all = (!neighbours.rows.is_empty())
                .then(|| Holders::of(rows.iter().chain(&neighbours.rows)));
            self.next += begun.elapsed() * SHARE;
            let holders = all.as_ref().unwrap_or(&view.holders);
            let mut owners = Owners::new(holders, view.closers.as_ref(), &mut self.processes);
            let who = |row: &Row| match owners.who(row) {
                Who::Process(process) => Some(Process::clone(&process)),
                _ => None,
            };
            (finding.ghosts, finding.ghost_count) =
                ghosts::ghosts(rows, &neighbours, local, &acked, retries, who);
        }
        finding.advice = advice::on_queue(&finding);
        finding
    }

    fn census(&mut self, id: u64, scope: &Scope, asked: Instant) -> io::Result<Census> {
        let start = Instant::now();
        let view = self.view(scope.netns, scope.protocol, asked)?;
        let snapshot = &view.snapshot;
        let mut owners = Owners::new(&view.holders, view.closers.as_ref(), &mut self.processes);
        let account = account(scope, &snapshot.settings, &snapshot.rows, |row| {
            owners.who(row)
        })
        .ok_or_else(|| io::Error::other("ip_local_port_range cannot be read"))?;
        let is_complete = !matches!(snapshot.bound_unused, BoundUnused::Incomplete(_));
        let mut census = Census {
            id,
            time: view.time,
            netns: scope.netns.inum,
            netns_cookie: scope.netns.cookie,
            // Whoever follows the namespaces knows.
            netns_name: None,
            kind: scope.kind,
            cause: scope.cause,
            protocol: scope.protocol,
            source: scope.source,
            destination: scope.destination,
            range: account.range,
            parts: account.parts,
            free: if is_complete { account.free } else { 0 },
            unexplained: if is_complete { 0 } else { account.free },
            bound_unused: snapshot.bound_unused.clone(),
            settings: snapshot.settings.clone(),
            sockets: u64::try_from(snapshot.rows.len()).unwrap_or(u64::MAX),
            took_ms: 0,
            advice: Vec::new(),
        };
        census.advice = advice::on_census(&census);
        census.took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(census)
    }

    /// The namespace's sockets as they were after `asked`.
    fn view(&mut self, netns: Netns, protocol: u16, asked: Instant) -> io::Result<Rc<View>> {
        let key = (netns, protocol);
        // Requests come in order: an older view serves none of those to come.
        self.views.retain(|_, view| view.begun >= asked);
        if let Some(view) = self.views.get(&key) {
            return Ok(Rc::clone(view));
        }
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        let time = Timestamp::now();
        let protocol = if protocol == TCP {
            Protocol::Tcp
        } else {
            Protocol::Udp
        };
        let snapshot = snapshot::take(netns, protocol)?;
        let closers = self.closers.as_ref();
        let view = Rc::new(View {
            holders: Holders::of(&snapshot.rows),
            closers: closers.map(|closers| closers.recall(netns.inum, &snapshot.rows)),
            snapshot,
            time,
            begun,
        });
        self.next = Instant::now() + begun.elapsed() * SHARE;
        self.views.insert(key, Rc::clone(&view));
        Ok(view)
    }
}
