//! Who sends: what OTLP calls the resource.

use std::fs;

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::{
    common::v1::InstrumentationScope, resource::v1::Resource as Message,
};
use opentelemetry_sdk::{Resource, resource::EnvResourceDetector};

/// A number for this run that no other has.
pub(super) fn instance() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map(|uuid| uuid.trim().to_owned())
        .unwrap_or_default()
}

/// tracer on this host; what `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say
/// goes before that.
pub(super) fn resource(host: &str, instance: &str) -> Message {
    let service = std::env::var("OTEL_SERVICE_NAME").unwrap_or_default();
    let service = (!service.is_empty()).then(|| KeyValue::new("service.name", service));
    let resource = Resource::builder_empty()
        .with_attributes(own(host, instance))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attributes(service)
        .build();
    let attributes = resource.iter();
    let mut attributes: Vec<_> = attributes
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
        .collect();
    // They come in no order.
    attributes.sort_by(|one, other| one.key.cmp(&other.key));
    let attributes = opentelemetry_proto::transform::common::tonic::Attributes::from(attributes);
    Message {
        attributes: attributes.0,
        ..Message::default()
    }
}

fn own(host: &str, instance: &str) -> [KeyValue; 5] {
    [
        KeyValue::new("service.name", "tracer"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.to_owned()),
        KeyValue::new("host.name", host.to_owned()),
        KeyValue::new("os.type", "linux"),
    ]
}

/// Which part of it: there is only one.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "tracer".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_a_number_of_its_own() {
        let (one, other) = (instance(), instance());
        assert!(one.len() == 36 && one != other, "{one}, {other}");
    }

    #[test]
    fn who_sends_is_told() {
        let told = resource("box", "7");
        let names: Vec<_> = told.attributes.iter().map(|one| one.key.as_str()).collect();
        for name in [
            "host.name",
            "os.type",
            "service.instance.id",
            "service.name",
            "service.version",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
    }
}
