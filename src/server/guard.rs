//! Handlers for those who are logged in.

use crate::base::shown::Shown;
use crate::protocol::socketio::event::Args;
use crate::server::handler::{AsyncHandler, Handler};
use crate::shard::user::app::Flow;
use crate::shard::user::context::Context;
use crate::shard::value::error::HandlerError;

/// A handler behind a guard; [`authenticated_only`] makes it.
#[derive(Clone, Copy, Debug)]
pub struct AuthenticatedOnly<H>(H);

/// A handler that runs for users of Flask-Login only, and disconnects the others: the `authenticated_only` decorator of
/// the Flask-SocketIO manual.
///
/// To keep the others out of the whole namespace there is
/// [`Namespace::require_login`](crate::Namespace::require_login).
///
/// ```
/// use shardcast::flask::{CookieSigner, authenticated_only};
/// use shardcast::{Config, Context, Server};
///
/// Server::new(Config::default()).cookie_sessions(CookieSigner::new("secret!")).namespace("/", |io| {
///     io.on("my event", authenticated_only(|cx: &mut Context, text: String| {
///         let session = cx.session();
///         let name = session.user_id().unwrap_or_default();
///         cx.broadcast().emit("my response", format!("{name}: {text}"));
///     }));
/// });
/// ```
pub fn authenticated_only<H>(handler: H) -> AuthenticatedOnly<H> {
    AuthenticatedOnly(handler)
}

impl<H> AuthenticatedOnly<H> {
    fn call_with(
        &self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&H, &mut Context<'_>) -> Result<Flow, HandlerError>,
    ) -> Result<Flow, HandlerError> {
        if cx.session().user_id().is_none() {
            let (event, sid) = (Shown(cx.event()), cx.id());
            tracing::info!(?event, sid = %sid.brief(), "not logged in; the socket is disconnected");
            cx.disconnect();
            return Ok(Flow::Done);
        }
        call(&self.0, cx)
    }
}

impl<M: 'static, H: Handler<M>> Handler<AuthenticatedOnly<M>> for AuthenticatedOnly<H> {
    fn call(&self, cx: &mut Context<'_>, args: Args<'_>) -> Result<Flow, HandlerError> {
        self.call_with(cx, |handler, cx| handler.call(cx, args))
    }
}

impl<M: 'static, H: AsyncHandler<M>> AsyncHandler<AuthenticatedOnly<M>> for AuthenticatedOnly<H> {
    fn call(&self, cx: &mut Context<'_>, args: Args<'_>) -> Result<Flow, HandlerError> {
        self.call_with(cx, |handler, cx| handler.call(cx, args))
    }
}
