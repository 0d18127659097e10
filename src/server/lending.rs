//! Lends the arguments of an event, or a client's auth, to a synchronous handler, for the time of its call.
//!
//! A handler is registered long before there is an event, and its type says which lifetime it can be lent: `Fn(&mut Context, &'e str)`.
//! For which `'e`? It must be one that the handler knows nothing about, but that it ends. That is what a [`Brand`] is: it is made
//! for one call of [`branded`], which a closure takes that must be right for every lifetime.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::lent::Scratch;
use crate::server::handler::{ConnectHandler, ConnectSignature, Handler, LentAuth, Signature};
use crate::shard::user::app::{self, ConnectFlow, EventHandler, Flow};
use crate::shard::user::argument::Source;

/// A lifetime of which only its maker, [`branded`], knows what it is. Invariant: it is neither shortened nor made longer.
#[derive(Clone, Copy)]
pub(crate) struct Brand<'e>(PhantomData<fn(&'e ()) -> &'e ()>);

/// Lets `work` register handlers for events that will live for some `'e`: `work` has to be right for each.
pub(crate) fn branded<R>(work: impl for<'e> FnOnce(Brand<'e>) -> R) -> R {
    work(Brand(PhantomData))
}

/// A synchronous handler, as the shard calls it.
pub(crate) fn bind<'e, M: Signature<'e>>(_: Brand<'e>, handler: impl Handler<M>) -> EventHandler {
    Box::new(move |cx, args| {
        if !handler.admits(cx) {
            return Ok(Flow::Done);
        }
        let scratch = Scratch::default();
        // SAFETY: nothing of what is lent is left when this call returns, which is while `args` and `scratch` live.
        // `handler` gets it, and could keep it in two ways. In something of its own: `handler` is `'static`, so a type within it that
        // names `'e` would need `'e: 'static`. In something that outlives everything (a static, another thread, a task): that needs
        // `'e: 'static`, too. Whoever made `handler` cannot have that: a `Brand` comes from `branded` only, whose closure is compiled
        // for every `'e` and cannot assume more of it than that it is there. The arguments are read here, and the answer is used
        // up here. What does not compile holds this: `tests/compile/lent.rs`.
        let (args, lent) = unsafe { lengthen::<'e, '_>(args, &scratch) };
        let arguments = M::read(&mut Source::new(args, lent, cx))?;
        let answer = handler.call(cx, arguments);
        M::finish(cx, answer)
    })
}

/// A connect handler, as the shard calls it.
pub(crate) fn bind_connect<'e, M: ConnectSignature<'e>>(
    _: Brand<'e>,
    handler: impl ConnectHandler<M>,
) -> app::ConnectHandler {
    Box::new(move |cx, auth| {
        let scratch = Scratch::default();
        // SAFETY: as in `bind`. The decision is taken apart here, and nothing of a `Refused` is lent.
        let (auth, lent) = unsafe { lengthen::<'e, '_>(auth, &scratch) };
        let answer = handler.call(cx, M::read(LentAuth::new(auth, lent))?);
        M::decide(answer).map(|()| ConnectFlow::Done)
    })
}

/// The same, said to live for `'e`.
///
/// # Safety
/// They are used only as long as they live.
unsafe fn lengthen<'e: 'e, 'a: 'a>(args: Args<'a>, scratch: &'a Scratch) -> (Args<'e>, &'e Scratch) {
    // SAFETY: only lifetimes differ, and the caller answers for them.
    unsafe { std::mem::transmute::<(Args<'a>, &'a Scratch), (Args<'e>, &'e Scratch)>((args, scratch)) }
}
