//! Sockets that wrap sockets, most of which inspect only one direction.
//!
//! The wrappers that the front puts around a client's socket ([`super::first_bytes`],
//! [`super::authority`], [`super::pings`], [`super::pace`]) must write, flush and shut down like
//! any socket, and most of them add nothing to that: so these parts of [`tokio::io::AsyncWrite`]
//! are implemented here once. The inner socket is the field `inner`.

/// All of `AsyncWrite`, for wrappers that inspect reads only.
macro_rules! writes_to_inner {
    () => {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            bytes: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.inner).poll_write(context, bytes)
        }

        fn poll_write_vectored(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            slices: &[std::io::IoSlice<'_>],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.inner).poll_write_vectored(context, slices)
        }

        crate::api::through::ends_with_inner!();
    };
}

/// All of `AsyncWrite` except the writing itself.
macro_rules! ends_with_inner {
    () => {
        fn poll_flush(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.inner).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.inner).poll_shutdown(context)
        }

        fn is_write_vectored(&self) -> bool {
            self.inner.is_write_vectored()
        }
    };
}

pub(super) use {ends_with_inner, writes_to_inner};
