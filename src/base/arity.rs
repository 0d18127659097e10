//! Lists of types: what functions with up to eight arguments have in common.

/// Calls a macro with no name, with one, and so on up to eight: `each_arity!(handler)`.
macro_rules! each_arity {
    ($each:ident) => {
        $each!();
        $each!(T1);
        $each!(T1, T2);
        $each!(T1, T2, T3);
        $each!(T1, T2, T3, T4);
        $each!(T1, T2, T3, T4, T5);
        $each!(T1, T2, T3, T4, T5, T6);
        $each!(T1, T2, T3, T4, T5, T6, T7);
        $each!(T1, T2, T3, T4, T5, T6, T7, T8);
    };
}

pub(crate) use each_arity;
