//! Refuses JSON in which an object has a member twice.
//!
//! Readers differ in which of two members they take, so such a text may mean something else to its signer than to
//! us. The derived readers refuse it only for members that they know.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Any JSON value whose objects have every member once. The JSON reader limits the depth.
pub(super) struct UniqueMembers;

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = UniqueMembers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let _: UniqueMembers = map.next_value()?;
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format_args!("member {name:?} stands twice")));
            }
        }
        Ok(UniqueMembers)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<UniqueMembers>()?.is_some() {}
        Ok(UniqueMembers)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(UniqueMembers)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(UniqueMembers)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(UniqueMembers)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(UniqueMembers)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(UniqueMembers)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(UniqueMembers)
    }
}

#[cfg(test)]
mod tests {
    use super::UniqueMembers;

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#] {
            let error = serde_json::from_str::<UniqueMembers>(text).err().unwrap();
            assert!(error.to_string().contains(r#"member "a" stands twice"#), "{error}");
        }
    }

    #[test]
    fn every_other_json_value_passes() {
        let text = r#"{"a":{"a":[1,-1,1.5,"x",null,true]},"b":[{"a":1},{"a":1}]}"#;
        assert!(serde_json::from_str::<UniqueMembers>(text).is_ok());
    }

    #[test]
    fn endless_nesting_is_refused() {
        assert!(serde_json::from_str::<UniqueMembers>(&"[".repeat(100_000)).is_err());
    }
}
