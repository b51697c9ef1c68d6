//! `--otlp`: failures as log records, and what is counted as metrics, for any
//! receiver that speaks OpenTelemetry's protocol.
//!
//! [`logs`] and [`metrics`] say what becomes of a record and of what was measured
//! (both pure). A thread with a runtime of its own sends: [`send_logs`] and
//! [`send_metrics`], each through a [`client`]. Who traces waits for none of it: what
//! finds no room is counted in [`delivery`], and [`trouble`] is said once.
//!
//! The messages are those of the official crate `opentelemetry-proto`. Its exporters
//! are not used: they tell nobody which records a receiver rejected, and their
//! metrics must be counted by the SDK a second time.

mod attributes;
mod client;
mod delivery;
mod endpoint;
mod logs;
mod metrics;
mod resource;
mod send_logs;
mod send_metrics;
mod trouble;

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use prost::Message;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

pub(crate) use endpoint::{Endpoint, endpoint};

use crate::{
    metrics::{Counted, Metrics, source::Besides},
    output::say,
    record::{Record, Totals},
    startup::Startup,
};
use client::Client;
use delivery::Delivery;
use send_logs::{Logs, Waiting};
use trouble::Trouble;

/// How long tracer's end waits for what has not arrived.
const FLUSH: Duration = Duration::from_secs(2);

/// How much longer for the thread to say so.
const GRACE: Duration = Duration::from_millis(500);

/// A receiver to which nothing is sent yet.
pub(crate) struct Planned {
    endpoint: Endpoint,
    delivery: Arc<Delivery>,
}

impl Planned {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            delivery: Arc::default(),
        }
    }

    /// What is measured about sending.
    pub(crate) fn besides(&self) -> Besides {
        let delivery = Arc::clone(&self.delivery);
        Box::new(move |families| delivery.measure(families))
    }
}

/// The side of who traces.
pub(crate) struct Otlp {
    delivery: Arc<Delivery>,
    /// Of this run.
    instance: String,
    /// The last totals.
    totals: Option<Totals>,
    /// `None`: it is over.
    thread: Option<Thread>,
}

struct Thread {
    queue: mpsc::UnboundedSender<Waiting>,
    last: oneshot::Sender<Counted>,
    ending: watch::Sender<bool>,
    done: Receiver<()>,
}

impl Otlp {
    /// Begins to send, on a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(planned: Planned, startup: &Startup, counts: &Metrics) -> Result<Self> {
        let Planned { endpoint, delivery } = planned;
        let instance = resource::instance();
        let from = resource::resource(&startup.host, &instance);
        let (queue, queued) = mpsc::unbounded_channel();
        let (last, last_counted) = oneshot::channel();
        let (ending, is_ending) = watch::channel(false);
        let (say_done, done) = sync_channel(1);
        let logs = Logs {
            queue: queued,
            client: Client::new(&endpoint, "logs"),
            from: from.clone(),
            delivery: Arc::clone(&delivery),
            trouble: Trouble::new("logs", &endpoint.url("logs")),
            ending: is_ending.clone(),
            expiry: Logs::EXPIRY,
        };
        let every = std::env::var("OTEL_METRIC_EXPORT_INTERVAL").ok();
        let metrics = send_metrics::Metrics {
            source: counts.source(),
            client: Client::new(&endpoint, "metrics"),
            from,
            trouble: Trouble::new("metrics", &endpoint.url("metrics")),
            every: send_metrics::interval_of(every),
        };
        let work = work(logs, metrics, last_counted, is_ending);
        start(work, say_done)?;
        Ok(Self {
            delivery,
            instance,
            totals: None,
            thread: Some(Thread {
                queue,
                last,
                ending,
                done,
            }),
        })
    }

    /// Takes a record, if there is room.
    pub(crate) fn record(&mut self, record: Record<'_>) {
        if let Record::Totals(totals) = record
            && totals.is_final
        {
            self.totals = Some(totals.clone());
        }
        let Some(thread) = &self.thread else { return };
        if !logs::is_sent(record) {
            return;
        }
        let number = self.delivery.offer();
        if !self.delivery.has_room() {
            return;
        }
        let Some(mut log) = logs::log(record) else {
            return;
        };
        logs::identify(&mut log, &self.instance, number);
        let bytes = log.encoded_len();
        self.delivery.take_room(bytes);
        // An error: the thread is gone, and this one counts as missing.
        let _ = thread.queue.send(Waiting { log, bytes });
    }

    /// Sends what is left, for a short time, and says what is missing.
    pub(crate) fn finish(&mut self, counts: Option<&Metrics>) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        drop(thread.queue);
        if let (Some(counts), Some(totals)) = (counts, self.totals.take()) {
            // An error: the thread is gone. So below.
            let _ = thread.last.send(counts.counted(totals));
        } else {
            drop(thread.last);
        }
        let _ = thread.ending.send(true);
        let _ = thread.done.recv_timeout(FLUSH + GRACE);
        let account = self.delivery.account();
        if account.missing() > 0 {
            say(&format!("tracer: OTLP: {}", account.missing_in_words()));
        }
    }
}

impl Drop for Otlp {
    /// However a run ends, nothing is missing silently.
    fn drop(&mut self) {
        self.finish(None);
    }
}

fn start(work: impl Future<Output = ()> + Send + 'static, say_done: SyncSender<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime for OTLP cannot be started")?;
    let run = move || {
        runtime.block_on(work);
        // The name of a receiver may still be looked up: nobody waits for that.
        runtime.shutdown_background();
        // An error: nobody waits.
        let _ = say_done.send(());
    };
    thread::Builder::new()
        .name("tracer-otlp".into())
        .spawn(run)
        .context("the thread for OTLP cannot be started")?;
    Ok(())
}

/// Sends until all is sent, but not much longer than tracer runs.
async fn work(
    mut logs: Logs,
    mut metrics: send_metrics::Metrics,
    last: oneshot::Receiver<Counted>,
    mut ending: watch::Receiver<bool>,
) {
    let both = async { tokio::join!(logs.send(), metrics.send(last)) };
    tokio::pin!(both);
    tokio::select! {
        _ = &mut both => return,
        // Also if nobody is there any more to say so.
        _ = ending.changed() => {}
    }
    // Out of time: what is not confirmed is counted as missing.
    let _ = timeout(FLUSH, both).await;
}
