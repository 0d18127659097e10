//! A class-based namespace for each document: `cargo run --example class_namespace`, then open http://127.0.0.1:5000 twice.
//!
//! `edit` puts a text at the end of the document and tells everybody else who has it open; `read` gives all of it.
//! A shard keeps what its own clients wrote: the page gives all clients of a document the same `shard_key`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use shardcast::http::Response;
use shardcast::{
    Args, ClassNamespace, CloseReason, Config, Context, HandlerError, Methods, Refused, Server, Socket,
};

/// A document has at most so many bytes.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

#[derive(serde::Deserialize)]
struct Login {
    name: String,
}

/// Who a client is, once it is let in.
#[derive(Clone)]
struct Name(String);

/// One shard's documents, by the name of their namespace.
#[derive(Default)]
struct Documents {
    texts: RefCell<HashMap<String, String>>,
}

impl ClassNamespace for Documents {
    fn register(io: &mut Methods<'_, Self>) {
        io.use_connect(Self::document_exists);
        io.on_connect(Self::on_connect);
        io.before(Self::check);
        io.on("edit", Self::on_edit);
        io.on_async("read", Self::on_read);
        io.on_error(Self::on_error);
        io.on_disconnect(Self::on_disconnect);
    }
}

impl Documents {
    fn document_exists(&self, cx: &mut Context) -> Result<(), Refused> {
        match cx.param("id").map(str::parse::<u32>) {
            Some(Ok(_)) => Ok(()),
            _ => Err(Refused::new("no such document").data(&cx.namespace())),
        }
    }

    fn on_connect(&self, cx: &mut Context, login: Option<Login>) -> Result<(), Refused> {
        let login = login.ok_or(Refused::new("who are you?"))?;
        cx.broadcast().include_self(false).emit("entered", &login.name);
        cx.set(Name(login.name));
        Ok(())
    }

    fn check(&self, _: &mut Context, args: Args<'_>) -> Result<(), &'static str> {
        if args.raw().len() > 1024 { Err("that is too much at once") } else { Ok(()) }
    }

    /// What it returns is the acknowledgement: how long the document is by then.
    fn on_edit(&self, cx: &mut Context, text: String) -> Result<usize, &'static str> {
        let mut texts = self.texts.borrow_mut();
        let document = texts.entry(cx.namespace().to_owned()).or_default();
        if document.len() + text.len() > DOCUMENT_BYTES_MAX {
            return Err("the document is full");
        }
        document.push_str(&text);
        let name = cx.get::<Name>().map(|name| name.0);
        cx.broadcast().include_self(false).emit("edited", (name, text));
        Ok(document.len())
    }

    /// Takes its time, and keeps nobody waiting but its own client.
    async fn on_read(self: Rc<Self>, socket: Socket) -> String {
        shardcast::sleep(Duration::from_millis(50)).await;
        self.texts.borrow().get(socket.namespace()).cloned().unwrap_or_default()
    }

    fn on_error(&self, cx: &mut Context, error: &HandlerError) {
        cx.emit("failed", (cx.event(), error.to_string()));
    }

    fn on_disconnect(&self, cx: &mut Context, _: CloseReason) {
        cx.broadcast().emit("left", cx.get::<Name>().map(|name| name.0));
    }
}

fn main() -> shardcast::Result<()> {
    Server::new(Config::load()?)
        .namespace_class("/document/{id}", |_| Documents::default())
        .route("/", |_| Response::html(include_str!("pages/class_namespace.html")))
        .static_folder("/pages", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pages"))
        .run()
}
