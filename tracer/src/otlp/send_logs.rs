//! Log records, from the queue to the receiver: in batches, each until the receiver
//! has it or it has been tried for too long.

use std::{mem, sync::Arc, time::Duration};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    client::{Answer, Client},
    delivery::Delivery,
    resource,
    trouble::Trouble,
};
use crate::output::sanitize::printable;

/// The first of a batch waits this long for others.
const LINGER: Duration = Duration::from_secs(1);

/// A batch has at most so many records, and about so many bytes: receivers have limits.
const RECORDS: usize = 1024;
const BYTES: usize = 1 << 20;

/// How long one batch is sent again and again.
const EXPIRY: Duration = Duration::from_secs(300);

/// Before a batch is sent again: first and at most, and at tracer's end.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// The same at most if the receiver says how long.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// What becomes of those that do not arrive.
const WAIT: &str = "they wait, as far as there is room, and are sent again";
const LEFT_OUT: &str = "what is not wanted is counted, and not sent again";

/// A log record in the queue, and the room that it takes there.
pub(super) struct Waiting {
    pub(super) log: LogRecord,
    pub(super) bytes: usize,
}

/// Sends log records until there will be no more.
pub(super) struct Logs {
    pub(super) queue: UnboundedReceiver<Waiting>,
    pub(super) client: Client,
    pub(super) from: Resource,
    pub(super) delivery: Arc<Delivery>,
    pub(super) trouble: Trouble,
    /// tracer ends: there is little time left.
    pub(super) ending: watch::Receiver<bool>,
    pub(super) expiry: Duration,
}

#[derive(Default)]
struct Batch {
    logs: Vec<LogRecord>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, waiting: Waiting) {
        self.logs.push(waiting.log);
        self.bytes += waiting.bytes;
    }

    fn is_full(&self) -> bool {
        self.logs.len() >= RECORDS || self.bytes >= BYTES
    }
}

impl Logs {
    pub(super) const EXPIRY: Duration = EXPIRY;

    pub(super) async fn send(&mut self) {
        while let Some(mut batch) = self.gather().await {
            let logs = mem::take(&mut batch.logs);
            let count = logs.len() as u64;
            let body = request(logs, &self.from).encode_to_vec();
            self.deliver(body.into(), count).await;
            self.delivery.give_room(batch.bytes);
        }
    }

    /// The next batch; `None`: there will be none.
    async fn gather(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        batch.add(self.queue.recv().await?);
        let deadline = Instant::now() + LINGER;
        while !batch.is_full() {
            match timeout_at(deadline, self.queue.recv()).await {
                Ok(Some(waiting)) => batch.add(waiting),
                Ok(None) | Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Sends until it is clear what became of all, and counts that.
    async fn deliver(&mut self, body: Bytes, count: u64) {
        let deadline = Instant::now() + self.expiry;
        let mut pause = PAUSE;
        loop {
            let (why, after) = match self.client.post(body.clone()).await {
                Answer::Taken(answer) => return self.taken(answer, count),
                Answer::Refused(why) => {
                    self.delivery.refused(count);
                    return self.trouble.failed(&why, LEFT_OUT);
                }
                Answer::Later(why, after) => (why, after),
            };
            self.trouble.failed(&why, WAIT);
            let next = after.map_or(pause, |after| after.min(LONGEST_ASKED));
            if Instant::now() + next >= deadline {
                return self.delivery.expired(count);
            }
            self.wait(next).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn taken(&mut self, answer: Bytes, count: u64) {
        // What is no such message says nothing about single records.
        let answer = ExportLogsServiceResponse::decode(answer).unwrap_or_default();
        let partial = answer.partial_success.unwrap_or_default();
        let rejected = u64::try_from(partial.rejected_log_records).unwrap_or_default();
        let rejected = rejected.min(count);
        self.delivery.taken(count - rejected);
        if rejected == 0 {
            return self.trouble.works();
        }
        self.delivery.refused(rejected);
        let why = printable(partial.error_message.as_bytes());
        let why = format!("it does not want {rejected} of {count}: {why}");
        self.trouble.failed(&why, LEFT_OUT);
    }

    async fn wait(&mut self, pause: Duration) {
        if *self.ending.borrow() {
            return sleep(pause.min(LAST_PAUSE)).await;
        }
        tokio::select! {
            () = sleep(pause) => {}
            // Also if nobody is there any more to say so.
            _ = self.ending.changed() => {}
        }
    }
}

fn request(log_records: Vec<LogRecord>, from: &Resource) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(from.clone()),
            scope_logs: vec![ScopeLogs {
                scope: Some(resource::scope()),
                log_records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

#[cfg(test)]
mod tests;
