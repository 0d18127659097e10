//! What the deserializers of this folder have in common: serde's methods that have nothing to do with attachments.

/// Calls a macro with the methods of [`serde::Deserializer`] that each of them treats alike. Those for anything, bytes, options, newtypes
/// and what is ignored are left out: there the deserializers differ.
macro_rules! each_method {
    ($each:ident) => {
        $each! {
            deserialize_bool();
            deserialize_i8();
            deserialize_i16();
            deserialize_i32();
            deserialize_i64();
            deserialize_i128();
            deserialize_u8();
            deserialize_u16();
            deserialize_u32();
            deserialize_u64();
            deserialize_u128();
            deserialize_f32();
            deserialize_f64();
            deserialize_char();
            deserialize_str();
            deserialize_string();
            deserialize_unit();
            deserialize_unit_struct(name: &'static str);
            deserialize_seq();
            deserialize_tuple(len: usize);
            deserialize_tuple_struct(name: &'static str, len: usize);
            deserialize_map();
            deserialize_struct(name: &'static str, fields: &'static [&'static str]);
            deserialize_enum(name: &'static str, variants: &'static [&'static str]);
            deserialize_identifier();
        }
    };
}

pub(super) use each_method;
