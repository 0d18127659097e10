//! One reading of `/metrics` (Prometheus' text format 0.0.4): names, labels and numbers.

use std::time::Instant;

/// What each name of shardcast's begins with.
const PREFIX: &str = "shardcast_";

/// One number.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    /// Without the prefix.
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// All numbers of one moment.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    rows: Vec<Row>,
    pub(super) at: Instant,
}

impl Figures {
    /// Reads what an answer holds; `None`: there is nothing of shardcast's in it.
    pub(super) fn read(text: &str, at: Instant) -> Option<Figures> {
        let rows: Vec<Row> = text.lines().filter_map(read_row).collect();
        rows.iter().any(|row| row.name == "build_info").then_some(Figures { rows, at })
    }

    /// The number of this name and label, or their sum if there are several; 0 where there is none.
    pub(super) fn of(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let named = self.rows.iter().filter(|row| row.name == name);
        let labelled = named.filter(|row| label.is_none_or(|(name, value)| row.label(name) == Some(value)));
        // An empty sum of numbers is -0.
        labelled.fold(0.0, |sum, row| sum + row.value)
    }

    /// A label of the first number of this name.
    pub(super) fn label(&self, name: &str, label: &str) -> Option<&str> {
        self.rows.iter().find(|row| row.name == name)?.label(label)
    }

    /// The values that a label has with this name, in the order in which they come.
    pub(super) fn values(&self, name: &str, label: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for value in self.rows.iter().filter(|row| row.name == name).filter_map(|row| row.label(label)) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }
}

impl Row {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// `shardcast_name{label="value",..} 1.5`, perhaps with a time behind it.
fn read_row(line: &str) -> Option<Row> {
    let line = line.strip_prefix(PREFIX)?;
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(list) = rest.strip_prefix('{') {
        rest = read_labels(list, &mut labels)?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Row { name: name.to_owned(), labels, value })
}

/// Reads labels up to their brace, and gives what follows it.
fn read_labels<'a>(mut list: &'a str, labels: &mut Vec<(String, String)>) -> Option<&'a str> {
    loop {
        list = list.trim_start_matches([',', ' ']);
        if let Some(rest) = list.strip_prefix('}') {
            return Some(rest);
        }
        let (name, rest) = list.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        loop {
            match chars.next()? {
                (at, '"') => {
                    list = &rest[at + 1..];
                    break;
                }
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, char) => value.push(char),
            }
        }
        labels.push((name.to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_prometheus_writes_them() {
        let text = "# HELP shardcast_sockets Sockets\n# TYPE shardcast_sockets gauge\n\
            shardcast_build_info{version=\"0.1.0\"} 1\n\
            shardcast_sockets{shard=\"0\"} 12\nshardcast_sockets{shard=\"1\"} 3\n\
            shardcast_queue_up{queue=\"/a \\\"b\\\" \\\\c\"} 1 1700000000000\n\
            shardcast_ready 1\nother_total 9\nshardcast_busy_seconds_total{shard=\"0\"} 1.5e-3\nshardcast_broken{shard=\"0} 1\n";
        let figures = Figures::read(text, crate::client::now()).unwrap();
        assert_eq!(figures.label("build_info", "version"), Some("0.1.0"));
        assert_eq!(figures.of("sockets", None), 15.0);
        assert_eq!(figures.of("sockets", Some(("shard", "1"))), 3.0);
        assert_eq!(figures.of("busy_seconds_total", None), 0.0015);
        assert_eq!(figures.values("queue_up", "queue"), ["/a \"b\" \\c"]);
        assert_eq!(figures.values("sockets", "shard"), ["0", "1"]);
        assert_eq!((figures.of("other_total", None), figures.of("broken", None)), (0.0, 0.0));
        assert!(Figures::read("<html>", crate::client::now()).is_none());
    }
}
