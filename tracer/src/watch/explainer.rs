//! From failures to findings: asks for what explains a failure, and hands out
//! the answers when they come.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use jiff::Timestamp;
use tokio::time::{Instant as Later, timeout_at};
use tracer_common::Event;

use crate::{
    explain::{
        closers::Closers,
        desk::{Desk, Given},
        finding::Accepts,
        queue::Queues,
        worker::{About, Answer, Request, Worker},
    },
    model::Failure,
};

/// At the end, answers are waited for this long.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Explainer {
    desk: Desk,
    queues: Queues,
    /// Whether who accepts is seen, so that accepts are counted.
    sees_accepts: bool,
    worker: Worker,
    last_id: u64,
    /// The last findings have been asked for.
    is_over: bool,
}

impl Explainer {
    /// # Errors
    /// The thread for censuses cannot be started.
    pub(super) fn new(closers: Option<Arc<Closers>>, sees_accepts: bool) -> Result<Self> {
        Ok(Self {
            desk: Desk::default(),
            queues: Queues::new(),
            sees_accepts,
            worker: Worker::start(closers)?,
            last_id: 0,
            is_over: false,
        })
    }

    /// Whether who accepts is still seen, after hooks have been replaced.
    pub(super) fn sees_accepts(&mut self, sees: bool) {
        self.sees_accepts = sees;
    }

    /// Notes in the failure what will explain it, and asks for that.
    pub(super) fn explain(&mut self, failure: &mut Failure, event: &Event) {
        if self.is_over {
            return;
        }
        let now = Instant::now();
        let last_id = &mut self.last_id;
        let next_id = || {
            *last_id += 1;
            *last_id
        };
        if failure.kind.is_drop() {
            let accepts = Accepts {
                returned: self.sees_accepts.then_some(event.accepts),
                failed: event.accept_failures,
                errno: event.accept_errno,
            };
            failure.queue = Some(self.queues.note(failure, accepts, next_id));
            return;
        }
        let given = self.desk.ask(failure, now, next_id);
        failure.census = match given {
            None => None,
            Some(Given::Shared(id)) => Some(id),
            Some(Given::New(id, scope)) => {
                self.worker.ask(Request {
                    about: About::Census(id, scope),
                    asked: now,
                });
                Some(id)
            }
        };
    }

    /// The same for failures that were counted and not described one by one.
    pub(super) fn add(&mut self, sum: &mut Failure) {
        if sum.kind.is_drop() && !self.is_over {
            sum.queue = self.queues.add(sum);
        }
    }

    /// Once a second: asks for what is due about queues; at the end for all that
    /// has not been told.
    pub(super) fn tell_queues(&mut self, is_final: bool) {
        let now = Timestamp::now();
        let drafts = if is_final {
            self.queues.finish(now)
        } else {
            self.queues.due(now)
        };
        for draft in drafts {
            self.worker.ask(Request {
                about: About::Queue(Box::new(draft)),
                asked: Instant::now(),
            });
        }
    }

    /// The next finding; waits for ever if none is to come. Safe to cancel.
    pub(super) async fn answer(&mut self) -> Answer {
        self.worker.answer().await
    }

    /// The findings that are still to come.
    pub(super) async fn rest(&mut self) -> Vec<Answer> {
        self.is_over = true;
        let deadline = Later::now() + PATIENCE;
        let mut rest = Vec::new();
        while self.worker.outstanding() > 0 {
            match timeout_at(deadline, self.worker.answer()).await {
                Ok(answer) => rest.push(answer),
                Err(_) => break,
            }
        }
        rest
    }
}
