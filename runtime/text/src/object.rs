//! Structures from JSON objects only: what serde derives takes a list of the fields' values as well.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Reads an object into a structure.
///
/// # Errors
/// What the structure says, and that `what` ("a line", say) must be an object.
pub fn read<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D, what: &'static str) -> Result<T, D::Error> {
    from.deserialize_map(Object(what, PhantomData))
}

struct Object<T>(&'static str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} that is a JSON object", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}
