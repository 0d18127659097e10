//! One JSON object of a request, field by field. Strict: a field that is not known is a fault that names the nearest, and so is one that is there twice.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::base::shown::Shown;
use crate::config::check::nearest_above;
use crate::server::api::table::Code;

/// How alike a field must be to be the one that was meant.
const SIMILARITY_MIN: f64 = 0.6;

/// Why a request is refused: the code, what to change, and which field it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) field: Option<String>,
    /// When it may succeed, in seconds.
    pub(crate) retry_after: Option<u64>,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), field: None, retry_after: None }
    }

    pub(crate) fn at(code: Code, field: &str, message: impl Into<String>) -> Fault {
        Fault { field: Some(field.to_owned()), ..Fault::new(code, message) }
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Fault {
        self.retry_after = Some(seconds);
        self
    }
}

/// The fields of an object, which are taken one by one.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pairs: Vec<(String, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// Reads an object that may have these fields. Nothing at all is an object without fields.
    pub(crate) fn read(text: &'a str, known: &[&str]) -> Result<Fields<'a>, Fault> {
        if text.trim().is_empty() {
            return Ok(Fields { pairs: Vec::new() });
        }
        let Pairs(pairs) = serde_json::from_str(text)
            .map_err(|error| Fault::new(Code::BadJson, format!("the body is not a JSON object: {error}")))?;
        check_names(pairs.iter().map(|(name, _)| name.as_str()), known)?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(other, _)| other == name) {
                return Err(Fault::at(Code::BadValue, name, format!("{name} is there twice")));
            }
        }
        Ok(Fields { pairs })
    }

    /// The JSON of a field.
    pub(crate) fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        let place = self.pairs.iter().position(|(other, _)| other == name)?;
        let (_, value) = self.pairs.swap_remove(place);
        (value.get() != "null").then_some(value)
    }

    /// A field of a type; `null` is as good as none.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str, is: &str) -> Result<Option<T>, Fault> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| Fault::at(Code::BadValue, name, format!("{name} is {is}")))
    }

    /// One text, or a list of them, which is not empty.
    pub(crate) fn texts(&mut self, name: &str, most: usize) -> Result<Option<Vec<String>>, Fault> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(String),
            Many(Vec<String>),
        }
        let texts = match self.take(name, "a text or a list of texts")? {
            None => return Ok(None),
            Some(Written::One(text)) => vec![text],
            Some(Written::Many(texts)) => texts,
        };
        if texts.is_empty() {
            let message =
                format!("{name} is an empty list, which means nobody; leave it out to mean everybody");
            return Err(Fault::at(Code::EmptyList, name, message));
        }
        if texts.len() > most {
            return Err(Fault::at(
                Code::BadValue,
                name,
                format!("{name} has {} entries; the most is {most}", texts.len()),
            ));
        }
        Ok(Some(texts))
    }
}

/// Refuses a name that is not known, with the nearest that is.
pub(crate) fn check_names<'n>(names: impl Iterator<Item = &'n str>, known: &[&str]) -> Result<(), Fault> {
    for name in names {
        if !known.contains(&name) {
            let near = nearest_above(SIMILARITY_MIN, known.iter().copied(), name);
            let advice = near.map_or_else(|| known_list(known), |near| format!("did you mean {near}?"));
            let message = format!("unknown field {:?}; {advice}", Shown(name));
            return Err(Fault::at(Code::UnknownField, name, message));
        }
    }
    Ok(())
}

fn known_list(known: &[&str]) -> String {
    if known.is_empty() {
        "there are none here".to_owned()
    } else {
        format!("known are {}", known.join(", "))
    }
}

struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs<'a>, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Reader).map(Pairs)
    }
}
