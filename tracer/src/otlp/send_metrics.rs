//! Metrics, from who measures to the receiver, every now and then. What does not
//! arrive is not sent again: numbers are those since the beginning, so the next ones
//! say it all.

use std::{sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceResponse, resource::v1::Resource,
};
use prost::Message;
use tokio::{
    sync::{Mutex, oneshot},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    client::{Answer, Client},
    metrics::request,
    trouble::Trouble,
};
use crate::{
    metrics::{
        Counted,
        source::{Measured, Source},
    },
    output::sanitize::printable,
};

/// How often, unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise, as the
/// specification has it.
const EVERY: Duration = Duration::from_secs(60);

/// Not more often.
const SHORTEST: Duration = Duration::from_secs(1);

/// Before the last numbers are sent again.
const PAUSE: Duration = Duration::from_millis(100);

/// What becomes of those that do not arrive.
const NEXT: &str = "the next ones will have it all";

/// What environment variables say about how often.
pub(super) fn interval_of(milliseconds: Option<String>) -> Duration {
    let asked = milliseconds.and_then(|text| text.parse().ok());
    asked.map_or(EVERY, |ms| Duration::from_millis(ms).max(SHORTEST))
}

/// Sends metrics until `last` comes, and then these.
pub(super) struct Metrics {
    pub(super) source: Arc<Mutex<Source>>,
    pub(super) client: Client,
    pub(super) from: Resource,
    pub(super) trouble: Trouble,
    pub(super) every: Duration,
}

impl Metrics {
    pub(super) async fn send(&mut self, last: oneshot::Receiver<Counted>) {
        let last = tokio::select! {
            last = last => last,
            () = self.again_and_again() => return,
        };
        let Ok(last) = last else { return };
        let Some(told) = self.source.lock().await.told(last) else {
            return;
        };
        while !self.post(&told.measured).await {
            sleep(PAUSE).await;
        }
    }

    async fn again_and_again(&mut self) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let told = self.source.lock().await.tell().await;
            // `None`: who traces is stuck, and has nothing new.
            if let Some(told) = told {
                self.post(&told.measured).await;
            }
        }
    }

    /// Whether there is no use in sending that again.
    async fn post(&mut self, measured: &Measured) -> bool {
        let body = request(measured, &self.from).encode_to_vec();
        match self.client.post(body.into()).await {
            Answer::Taken(answer) => {
                let answer = ExportMetricsServiceResponse::decode(answer).unwrap_or_default();
                let partial = answer.partial_success.unwrap_or_default();
                if partial.rejected_data_points > 0 {
                    let why = printable(partial.error_message.as_bytes());
                    let rejected = partial.rejected_data_points;
                    let why = format!("it does not want {rejected} of them: {why}");
                    self.trouble.failed(&why, NEXT);
                } else {
                    self.trouble.works();
                }
                true
            }
            Answer::Refused(why) => {
                self.trouble.failed(&why, NEXT);
                true
            }
            Answer::Later(why, _) => {
                self.trouble.failed(&why, NEXT);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often() {
        let asked = |text: &str| interval_of(Some(text.to_owned()));
        assert_eq!(interval_of(None), EVERY);
        assert_eq!(asked("5000"), Duration::from_secs(5));
        assert_eq!(asked("1"), SHORTEST);
        assert_eq!(asked("often"), EVERY);
    }
}
