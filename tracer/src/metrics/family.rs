//! What is measured, as a list that any pipeline can take: families of samples.
//! Pure.

/// Names and values.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Unsigned(number)
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self::Unsigned(number.into())
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Unsigned(number as u64)
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

/// What a family's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// It only rises, from 0 when tracer was attached.
    Counter,
    Gauge,
    /// A gauge in seconds.
    Seconds,
}

/// What is measured under one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    /// Without what a format appends: `_total`, `_seconds`.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) sort: Sort,
    pub(crate) samples: Vec<(Labels, Number)>,
}

/// All that is measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Families(pub(crate) Vec<Family>);

impl Families {
    pub(crate) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        self.add(name, help, Sort::Counter, samples);
    }

    pub(crate) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, impl Into<Number>)>,
    ) {
        self.add(name, help, Sort::Gauge, samples);
    }

    pub(crate) fn seconds(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        self.add(name, help, Sort::Seconds, samples);
    }

    /// A counter without labels.
    pub(crate) fn total(&mut self, name: &'static str, help: &'static str, count: u64) {
        self.counter(name, help, [(Labels::new(), count)]);
    }

    /// A gauge without labels.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        help: &'static str,
        value: impl Into<Number>,
    ) {
        self.gauge(name, help, [(Labels::new(), value)]);
    }

    /// Seconds without labels.
    pub(crate) fn moment(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.seconds(name, help, [(Labels::new(), value)]);
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        sort: Sort,
        samples: impl IntoIterator<Item = (Labels, impl Into<Number>)>,
    ) {
        let samples = samples.into_iter();
        self.0.push(Family {
            name,
            help,
            sort,
            samples: samples
                .map(|(labels, value)| (labels, value.into()))
                .collect(),
        });
    }
}
