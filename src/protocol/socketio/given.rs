//! An argument that may be missing or `null`, told apart.
//!
//! Does not read arguments: `event` does, and says with [`Absent`] that there is none.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::attached::NotBytes;

/// The name by which `Given` asks whether there is an argument at all.
const NAME: &str = "$shardcast::Given";

/// An argument that may be missing, or `null`: an [`Option`] that tells the two apart.
///
/// To an `Option` a missing argument is `None`, as `null` is, and so mostly right. Where the difference counts, as in "leave the name as
/// it is" and "take the name away", there is this. JavaScript sends `undefined` among the arguments as `null`; missing are those that
/// a client did not write, at the end. As a field of a struct it needs `#[serde(default)]`, as every field that may be missing.
///
/// ```
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Context, Given, Server};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.on("rename", |_: &mut Context, name: Given<String>| match name {
///         Given::Missing => "kept".to_owned(),
///         Given::Null => "taken away".to_owned(),
///         Given::Value(name) => name,
///     });
/// });
/// let server = TestServer::new(server).unwrap();
/// let client = server.connect("/").unwrap();
/// let rename = |args: serde_json::Value| {
///     let args: Vec<_> = args.as_array().unwrap().clone();
///     match args.as_slice() {
///         [] => client.call("rename", ()),
///         [one, ..] => client.call("rename", one),
///     }
///     .unwrap()
///     .first::<String>()
///     .unwrap()
/// };
/// assert_eq!(rename(serde_json::json!([])), "kept");
/// assert_eq!(rename(serde_json::json!([null])), "taken away");
/// assert_eq!(rename(serde_json::json!(["Ada"])), "Ada");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Given<T> {
    /// The client gave no such argument.
    #[default]
    Missing,
    /// It gave `null`.
    Null,
    /// It gave a value.
    Value(T),
}

impl<T> Given<T> {
    /// The value, if there is one.
    pub fn into_option(self) -> Option<T> {
        if let Given::Value(value) = self { Some(value) } else { None }
    }

    /// The value, lent, if there is one.
    pub fn value(&self) -> Option<&T> {
        if let Given::Value(value) = self { Some(value) } else { None }
    }

    /// Whether the client gave no such argument.
    pub fn is_missing(&self) -> bool {
        matches!(self, Given::Missing)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given<T>, D::Error> {
        deserializer.deserialize_newtype_struct(NAME, GivenVisitor(PhantomData))
    }
}

/// What is missing is written as `null`; in a struct `skip_serializing_if = "Given::is_missing"` leaves it out.
impl<T: Serialize> Serialize for Given<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

struct GivenVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for GivenVisitor<T> {
    type Value = Given<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an argument, null, or none")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Given<T>, D::Error> {
        Ok(Option::deserialize(inner)?.map_or(Given::Null, Given::Value))
    }

    /// From [`Absent`].
    fn visit_none<E: Error>(self) -> Result<Given<T>, E> {
        Ok(Given::Missing)
    }
}

/// An argument that is not there, for `Given`. Other types are read from a `null` elsewhere.
pub(super) struct Absent<'a> {
    /// Set when it was asked for.
    pub(super) is_asked: &'a mut bool,
}

impl<'de> Deserializer<'de> for Absent<'_> {
    type Error = NotBytes;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NotBytes> {
        Err(NotBytes)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NotBytes> {
        if name != NAME {
            return Err(NotBytes);
        }
        *self.is_asked = true;
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::any_value::AnyValue;
    use super::super::binary::Binary;
    use super::super::event::{Args, ArgsError};
    use super::*;

    #[test]
    fn missing_is_not_null() {
        let attachments = [Bytes::from_static(b"x")];
        for attachments in [&[][..], &attachments] {
            let args = Args::of_elements(r#"null,"a",7"#, attachments);
            assert_eq!(args.read::<Given<String>>(0), Ok(Given::Null));
            assert_eq!(args.read::<Given<String>>(1), Ok(Given::Value("a".to_owned())));
            assert!(matches!(args.read::<Given<String>>(2), Err(ArgsError::Mismatch { index: 2, .. })));
            assert_eq!(args.read::<Given<String>>(3), Ok(Given::Missing));
            assert_eq!(args.read::<Given<Option<u8>>>(3), Ok(Given::Missing));
            assert_eq!(args.read::<Option<u8>>(3), Ok(None));
            assert_eq!(args.read::<u8>(3), Err(ArgsError::Missing { index: 3 }));
        }
        let args = Args::of_elements(r#"{"_placeholder":true,"num":0}"#, &attachments);
        assert_eq!(args.read::<Given<Binary>>(0), Ok(Given::Value(Binary::from(vec![b'x']))));
        assert_eq!(
            args.read::<Given<AnyValue>>(0),
            Ok(Given::Value(AnyValue::Bytes(attachments[0].clone())))
        );
    }

    #[test]
    fn a_field_that_is_missing_is_told_from_null() {
        #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        struct Change {
            #[serde(skip_serializing_if = "Given::is_missing")]
            name: Given<String>,
            #[serde(skip_serializing_if = "Given::is_missing")]
            age: Given<u8>,
        }
        for (text, name, age) in [
            ("{}", Given::Missing, Given::Missing),
            (r#"{"name":null}"#, Given::Null, Given::Missing),
            (r#"{"name":"a","age":7}"#, Given::Value("a".to_owned()), Given::Value(7)),
        ] {
            let change = Args::of_value(text).read::<Change>(0).unwrap();
            assert_eq!(change, Change { name, age });
            assert_eq!(serde_json::to_string(&change).unwrap(), text);
        }
    }

    #[test]
    fn the_value_is_had_as_an_option() {
        assert_eq!((Given::Value(1).into_option(), Given::<u8>::Null.into_option()), (Some(1), None));
        assert_eq!((Given::Value(1).value(), Given::<u8>::default().is_missing()), (Some(&1), true));
    }
}
