//! rotel, a real OpenTelemetry collector, and what it prints about what it received.

use super::beside::Program;
use super::lab::until;
use super::venv::Package;
use crate::place::Place;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

pub(super) const PACKAGE: Package = Package {
    name: "rotel",
    version: "0.0.1a15",
};

/// Names and values. rotel shows the kind of each value; it is left out here.
pub(super) type Attributes = BTreeMap<String, String>;

/// A log record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) event_name: String,
    pub(super) severity: String,
    /// Nanoseconds since the Unix epoch.
    pub(super) time: u64,
    pub(super) body: String,
    pub(super) attributes: Attributes,
}

/// A number.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Point {
    /// `Sum` or `Gauge`.
    pub(super) sort: String,
    pub(super) is_cumulative: bool,
    pub(super) is_monotonic: bool,
    pub(super) start: u64,
    pub(super) value: f64,
}

/// All that arrived.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) logs: Vec<Log>,
    /// The last one of each series.
    pub(super) points: BTreeMap<(String, Attributes), Point>,
    /// Of whoever sent last.
    pub(super) resource: Attributes,
}

/// A rotel of its own, on loopback, that takes everything and keeps nothing.
pub(super) struct Rotel(Program);

impl Rotel {
    pub(super) fn start(
        place: &Place,
        directory: &Path,
        name: &str,
        address: SocketAddr,
    ) -> Result<Self> {
        let home = PACKAGE.home(place).join("lib");
        let agent = fs::read_dir(&home)?
            .flatten()
            .map(|python| python.path().join("site-packages/rotel/rotel-agent"))
            .find(|agent| agent.is_file())
            .context("the package has no rotel-agent")?;
        let file = |end: &str| {
            directory
                .join(format!("{name}.{end}"))
                .display()
                .to_string()
        };
        let words = [
            "start".to_owned(),
            format!("--otlp-http-endpoint={address}"),
            format!("--otlp-grpc-endpoint={}", free_address()?),
            "--debug-log=logs".to_owned(),
            "--debug-log=metrics".to_owned(),
            "--debug-log-verbosity=detailed".to_owned(),
            "--exporter=blackhole".to_owned(),
            format!("--pid-file={}", file("pid")),
            format!("--log-file={}", file("log")),
        ];
        let words = words.each_ref().map(String::as_str);
        let output = directory.join(format!("{name}.out"));
        let rotel = Self(Program::start(&agent, &words, output)?);
        until("rotel", || Ok(TcpStream::connect(address).is_ok()))
            .with_context(|| rotel.0.said().unwrap_or_default())?;
        Ok(rotel)
    }

    pub(super) fn arrived(&self) -> Result<Arrived> {
        let text = fs::read(self.0.output())?;
        Ok(read(&String::from_utf8_lossy(&text)))
    }

    /// Ends it, and tells all that arrived.
    pub(super) fn stop(mut self) -> Result<Arrived> {
        self.0.stop("TERM")?;
        self.arrived()
    }
}

/// Free a moment ago: rotel cannot be asked which one it found.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// What attributes belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Resource,
    Scope,
    Log,
    Metric,
    Point,
}

fn read(text: &str) -> Arrived {
    let mut arrived = Arrived::default();
    let mut part = Part::Scope;
    let (mut name, mut metric) = (String::new(), Point::default());
    let mut labels = Attributes::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let attribute = line.strip_prefix("     -> ");
        let (word, value) = attribute
            .unwrap_or(line)
            .split_once(": ")
            .unwrap_or((line, ""));
        if line.starts_with("ResourceLog #") || line.starts_with("ResourceMetrics #") {
            part = Part::Resource;
            arrived.resource.clear();
        } else if line.starts_with("Scope") {
            part = Part::Scope;
        } else if line.starts_with("LogRecord #") {
            part = Part::Log;
            arrived.logs.push(Log::default());
        } else if line.starts_with("Metric #") {
            part = Part::Metric;
            metric = Point::default();
        } else if line.starts_with("NumberDataPoints #") {
            part = Part::Point;
            labels.clear();
        } else if word == "Body" {
            // All of its lines: attributes come next.
            let mut body = value.to_owned();
            while let Some(more) = lines.next_if(|line| *line != "Attributes:") {
                body.push('\n');
                body.push_str(more);
            }
            if let Some(log) = arrived.logs.last_mut() {
                log.body = content(&body);
            }
        } else if attribute.is_some() {
            let entry = (word.to_owned(), content(value));
            match part {
                Part::Resource => arrived.resource.extend([entry]),
                Part::Log => {
                    if let Some(log) = arrived.logs.last_mut() {
                        log.attributes.extend([entry]);
                    }
                }
                Part::Point => labels.extend([entry]),
                Part::Metric => match word {
                    "Name" => name = value.to_owned(),
                    "DataType" => metric.sort = value.to_owned(),
                    "IsMonotonic" => metric.is_monotonic = value == "true",
                    "AggregationTemporality" => {
                        metric.is_cumulative = value.ends_with("_CUMULATIVE");
                    }
                    _ => {}
                },
                Part::Scope => {}
            }
        } else if part == Part::Log {
            let Some(log) = arrived.logs.last_mut() else {
                continue;
            };
            match word {
                "Timestamp" => log.time = value.parse().unwrap_or_default(),
                "SeverityText" => log.severity = value.to_owned(),
                "EventName" => log.event_name = value.to_owned(),
                _ => {}
            }
        } else if part == Part::Point {
            match word {
                "StartTimestamp" => metric.start = value.parse().unwrap_or_default(),
                "Value" => {
                    metric.value = value.parse().unwrap_or(f64::NAN);
                    let series = (name.clone(), labels.clone());
                    arrived.points.insert(series, metric.clone());
                }
                _ => {}
            }
        }
    }
    arrived
}

/// `Str(x)` → `x`.
fn content(value: &str) -> String {
    let inside = value.split_once('(').map(|(_, rest)| rest);
    let inside = inside.and_then(|rest| rest.strip_suffix(')'));
    inside.unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGS: &str = "\
Starting Rotel.
ResourceLog #0
Resource SchemaURL: 
Resource attributes:
     -> service.name: Str(tracer)
ScopeLogs #0
ScopeLogs SchemaURL: 
InstrumentationScope tracer 0.1.0
LogRecord #0
ObservedTimestamp: 3
Timestamp: 2
SeverityText: ERROR
SeverityNumber: SEVERITY_NUMBER_ERROR(17)
EventName: tracer.bind_failed
Body: Str(a: b
   (c))
Attributes:
     -> process.pid: Int(7)
     -> process.title: Str(x: (y))
    Trace ID       : 
Flags: 0
";

    #[test]
    fn logs_are_read() {
        let arrived = read(LOGS);
        let attributes = [("process.pid", "7"), ("process.title", "x: (y)")];
        let log = Log {
            event_name: "tracer.bind_failed".into(),
            severity: "ERROR".into(),
            time: 2,
            body: "a: b\n   (c)".into(),
            attributes: attributes
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        assert_eq!(arrived.logs, [log]);
        assert_eq!(arrived.resource["service.name"], "tracer");
    }

    #[test]
    fn the_last_number_counts() {
        let text = "\
ResourceMetrics #0
ScopeMetrics #0
Metric #0
Descriptor:
     -> Name: tracer.failures
     -> DataType: Sum
     -> IsMonotonic: true
     -> AggregationTemporality: AGGREGATION_TEMPORALITY_CUMULATIVE
NumberDataPoints #0
Data point attributes:
     -> kind: Str(bind_failed)
StartTimestamp: 5
Timestamp: 9
Value: 1
NumberDataPoints #1
StartTimestamp: 5
Timestamp: 9
Value: 7
";
        let arrived = read(&format!("{text}{}", text.replace("Value: 1", "Value: 2")));
        let kind = Attributes::from([("kind".to_owned(), "bind_failed".to_owned())]);
        let values: Vec<_> = arrived
            .points
            .iter()
            .map(|((name, labels), point)| (name.as_str(), labels.clone(), point.value))
            .collect();
        assert_eq!(
            values,
            [
                ("tracer.failures", Attributes::new(), 7.0),
                ("tracer.failures", kind, 2.0),
            ]
        );
        assert!(arrived.points.values().all(|point| {
            point.sort == "Sum" && point.is_cumulative && point.is_monotonic && point.start == 5
        }));
    }
}
