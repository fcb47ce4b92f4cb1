//! `managed!`: the user's types as objects of a manager, without a procedural macro.

/// Exports methods of a type, so that a manager can hold its values, and declares its proxy.
///
/// The methods are those of the type; what is not in the list cannot be called. Arguments and results
/// must be messages; an argument may be a reference. In the proxy each method takes `&self` and gives
/// [`Result`](crate::Result) of what it gives there. If the method's own result is a `Result`, `throws`
/// behind the arguments makes the two one: its error becomes the call's, by `Into<Error>`.
///
/// The type may be generic; each parameter must be a message without borrowed parts.
///
/// A method that panics gives [`Error::Panicked`](crate::Error::Panicked), with message and place; the
/// server goes on. Methods run one after the other, in the server's one thread: a long one keeps all
/// clients waiting.
///
/// # Examples
/// ```
/// pub struct Counter(i64);
///
/// impl Counter {
///     fn new(start: i64) -> Counter {
///         Counter(start)
///     }
///
///     fn add(&mut self, n: i64) -> i64 {
///         self.0 += n;
///         self.0
///     }
///
///     fn divide(&mut self, by: i64) -> Result<i64, multiproc::Error> {
///         let quotient = self.0.checked_div(by);
///         self.0 = quotient.ok_or(multiproc::Error::InvalidArgument { reason: "by zero".into() })?;
///         Ok(self.0)
///     }
/// }
///
/// multiproc::managed! {
///     /// A counter that processes share.
///     pub impl Counter as CounterProxy {
///         /// Adds `n` and gives the sum.
///         fn add(&mut self, n: i64) -> i64;
///         fn divide(&mut self, by: i64) throws -> i64;
///     }
/// }
///
/// # multiproc::init_before_main!();
/// # fn main() -> multiproc::Result<()> {
/// let manager = multiproc::Manager::start()?;
/// let counter = manager.create(Counter::new, (40,))?;
/// assert_eq!(counter.add(2)?, 42);
/// assert_eq!(counter.divide(0).unwrap_err().to_string(), "invalid argument: by zero");
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! managed {
    ($(#[$meta:meta])* $vis:vis impl $object:ident as $proxy:ident $(= $kind:literal)? $([$waits:ident])? { $($methods:tt)* }) => {
        $crate::__managed! {
            [$(#[$meta])* $vis] $object [] $proxy
            ($crate::__managed!(@kind $object $($kind)?)) [$($waits)?] { $($methods)* }
        }
    };
    ($(#[$meta:meta])* $vis:vis impl<
        $($type:ident $(: $($bound:ident)::+ $(+ $($more:ident)::+)*)?),* $(,)?
    > $object:ident as $proxy:ident $(= $kind:literal)? $([$waits:ident])? { $($methods:tt)* }) => {
        $crate::__managed! {
            [$(#[$meta])* $vis] $object
            [$(($type [$($($bound)::+ $(+ $($more)::+)*)?]))*]
            $proxy ($crate::__managed!(@kind $object $($kind)?)) [$($waits)?] { $($methods)* }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __managed {
    ([$(#[$meta:meta])* $vis:vis] $object:ident [$(($type:ident [$($bounds:tt)*]))*]
    $proxy:ident ($kind:expr) [$($waits:ident)?] { $(
        $(#[$about:meta])*
        fn $method:ident (& $($receiver:ident)+ $(, $($arguments:tt)*)?) $($throws:ident)? $(-> $result:ty)?;
    )* }) => {
        $(#[$meta])*
        $vis struct $proxy<$($type,)* __Mode: $crate::manager::Mode = $crate::manager::Now> {
            link: __Mode::Link,
            types: ::core::marker::PhantomData<fn() -> ($($type,)*)>,
        }

        #[allow(dead_code)]
        impl<$($type: $crate::Encode + $crate::Decode + 'static + $($bounds)*,)* __Mode: $crate::manager::Mode>
            $proxy<$($type,)* __Mode>
        {
            $( $crate::__managed! {
                @method [$(#[$about])*] [$vis] $method [] [$($($arguments)*)?] [$($result)?]
            } )*
        }

        #[allow(dead_code)]
        impl<$($type: $crate::Encode + $crate::Decode + 'static + $($bounds)*,)*> $proxy<$($type,)*> {
            /// Makes many calls in one go: `calls` is given a proxy whose methods give
            /// [`Pending`]($crate::manager::Pending) results, which are there when this returns.
            $vis fn pipeline<__R>(
                &self,
                calls: impl ::core::ops::FnOnce(&$proxy<$($type,)* $crate::manager::Later>) -> __R,
            ) -> $crate::Result<__R> {
                $crate::manager::Batch::pipeline(&self.link, |link| {
                    calls(&$proxy { link, types: ::core::marker::PhantomData })
                })
            }

            /// Calls `f` on the object itself, in the server, with one argument, and gives its result: a
            /// function item, or a closure that captures nothing. Nobody else's call comes between.
            /// The server must be of the same program.
            $vis fn apply<__F, __A, __R>(&self, f: __F, argument: __A) -> $crate::Result<__R>
            where
                __F: ::core::ops::Fn(&mut $object<$($type),*>, __A) -> __R
                    + ::core::marker::Copy
                    + ::core::marker::Send
                    + ::core::marker::Sync
                    + 'static,
                __A: $crate::Encode + $crate::Decode + 'static,
                __R: $crate::Encode + $crate::Decode + 'static,
            {
                self.link.apply(f, argument)
            }

            /// Makes calls and waits for no replies: `calls` is given a proxy whose methods give
            /// nothing. Later calls of this process come after them. Their first error is what
            /// [`Manager::sync`]($crate::Manager::sync) gives.
            $vis fn post<__R>(
                &self,
                calls: impl ::core::ops::FnOnce(&$proxy<$($type,)* $crate::manager::Posted>) -> __R,
            ) -> $crate::Result<__R> {
                $crate::manager::Batch::post(&self.link, |link| {
                    calls(&$proxy { link, types: ::core::marker::PhantomData })
                })
            }
        }

        impl<$($type: $crate::Encode + $crate::Decode + 'static + $($bounds)*,)*> $crate::manager::Served
            for $object<$($type),*>
        {
            fn as_any(&mut self) -> &mut dyn ::core::any::Any {
                self
            }

            fn kind(&self) -> &'static str {
                $kind
            }

            fn interface(&self) -> ::std::string::String {
                <$proxy<$($type,)*> as $crate::manager::Proxy>::interface()
            }

            fn serve(&mut self, call: &mut $crate::manager::Call<'_>) -> $crate::Result<()> {
                $( if call.method()
                    == const { $crate::manager::method_number(::core::stringify!($method)) }
                {
                    $crate::__managed! {
                        @serve self call $method [$($throws)?] [] [$($($arguments)*)?]
                    }
                } )*
                ::core::result::Result::Err(call.not_exported($kind))
            }

            $crate::__managed! { @waits $($waits)? }
        }

        impl<$($type: $crate::Encode + $crate::Decode + 'static + $($bounds)*,)*> $crate::manager::Managed
            for $object<$($type),*>
        {
            type Proxy = $proxy<$($type,)*>;
        }

        impl<$($type: $crate::Encode + $crate::Decode + 'static + $($bounds)*,)*> $crate::manager::Proxy
            for $proxy<$($type,)*>
        {
            type Object = $object<$($type),*>;

            fn interface() -> ::std::string::String {
                let types: &[&str] = &[$(::core::any::type_name::<$type>()),*];
                ::std::format!(
                    "{}<{}> {{ {} }}",
                    $kind,
                    types.join(", "),
                    ::core::concat!($(
                        ::core::stringify!(fn $method($($($arguments)*)?) $(-> $result)?), "; "
                    ),*),
                )
            }

            fn from_handle(link: $crate::manager::Handle) -> Self {
                $proxy { link, types: ::core::marker::PhantomData }
            }

            fn handle(&self) -> &$crate::manager::Handle {
                &self.link
            }
        }

        impl<$($type,)*> ::core::clone::Clone for $proxy<$($type,)*> {
            fn clone(&self) -> Self {
                $proxy { link: self.link.clone(), types: ::core::marker::PhantomData }
            }
        }

        impl<$($type,)*> $crate::Encode for $proxy<$($type,)*> {
            fn encode(&self, encoder: &mut $crate::Encoder<'_>) {
                $crate::Encode::encode(&self.link, encoder);
            }
        }

        impl<$($type,)*> $crate::Decode for $proxy<$($type,)*> {
            fn decode(decoder: &mut $crate::Decoder<'_>) -> $crate::Result<Self> {
                ::core::result::Result::Ok($proxy {
                    link: $crate::Decode::decode(decoder)?,
                    types: ::core::marker::PhantomData,
                })
            }
        }

        impl<$($type,)* __Mode: $crate::manager::Mode> ::core::fmt::Debug for $proxy<$($type,)* __Mode>
        where
            __Mode::Link: ::core::fmt::Debug,
        {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::write!(
                    f, "<{} object, typeid '{}' at {:?}>", ::core::stringify!($proxy), $kind, self.link
                )
            }
        }
    };

    (@waits) => {};
    (@waits waits) => {
        fn withdraw(
            &mut self,
            ticket: $crate::manager::Ticket,
            timed_out: bool,
            waits: &mut $crate::manager::Waits,
        ) {
            $crate::manager::Waiting::call_ended(self, ticket, timed_out, waits);
        }

        fn settled(
            &mut self,
            ticket: $crate::manager::Ticket,
            received: bool,
            waits: &mut $crate::manager::Waits,
        ) {
            $crate::manager::Waiting::lending_ended(self, ticket, received, waits);
        }

        fn session_ended(&mut self, session: u64, waits: &mut $crate::manager::Waits) {
            $crate::manager::Waiting::holder_ended(self, session, waits);
        }
    };

    (@kind $object:ident) => { ::core::stringify!($object) };
    (@kind $object:ident $kind:literal) => { $kind };

    // A method of the proxy: its arguments are gathered, then it is written out.
    (@method $about:tt $vis:tt $method:ident [$($done:tt)*]
        [$name:ident : $type:ty $(, $($rest:tt)*)?] $result:tt) => {
        $crate::__managed! {
            @method $about $vis $method [$($done)* ($name [$type])] [$($($rest)*)?] $result
        }
    };
    (@method [$($about:tt)*] [$vis:vis] $method:ident [$(($name:ident [$type:ty]))*] [] [$($result:ty)?]) => {
        $($about)*
        $vis fn $method(&self $(, $name: $type)*) -> __Mode::Answer<$crate::__managed!(@or_unit $($result)?)> {
            <__Mode as $crate::manager::Mode>::call(
                &self.link,
                const { $crate::manager::method_number(::core::stringify!($method)) },
                &($(&$name,)*),
            )
        }
    };
    (@or_unit) => { () };
    (@or_unit $type:ty) => { $type };

    // A method of the object: its arguments are decoded as what can be owned, and lent where it borrows.
    (@serve $this:ident $call:ident $method:ident $throws:tt [$($done:tt)*]
        [$name:ident : & str $(, $($rest:tt)*)?]) => {
        $crate::__managed! {
            @serve $this $call $method $throws
            [$($done)* ($name [::std::string::String] [&])] [$($($rest)*)?]
        }
    };
    (@serve $this:ident $call:ident $method:ident $throws:tt [$($done:tt)*]
        [$name:ident : & [$type:ty] $(, $($rest:tt)*)?]) => {
        $crate::__managed! {
            @serve $this $call $method $throws
            [$($done)* ($name [::std::vec::Vec<$type>] [&])] [$($($rest)*)?]
        }
    };
    (@serve $this:ident $call:ident $method:ident $throws:tt [$($done:tt)*]
        [$name:ident : & $type:ty $(, $($rest:tt)*)?]) => {
        $crate::__managed! {
            @serve $this $call $method $throws [$($done)* ($name [$type] [&])] [$($($rest)*)?]
        }
    };
    (@serve $this:ident $call:ident $method:ident $throws:tt [$($done:tt)*]
        [$name:ident : $type:ty $(, $($rest:tt)*)?]) => {
        $crate::__managed! {
            @serve $this $call $method $throws [$($done)* ($name [$type] [])] [$($($rest)*)?]
        }
    };
    // A method that answers by itself, now or later.
    (@serve $this:ident $call:ident $method:ident [waits] [$(($name:ident [$type:ty] [$($lend:tt)?]))*] []) => {
        {
            #[allow(unused_variables)]
            let ($($name,)*) = $call.arguments::<($($type,)*)>()?;
            return $this.$method($call $(, $($lend)? $name)*);
        }
    };
    (@serve $this:ident $call:ident $method:ident $throws:tt [$(($name:ident [$type:ty] [$($lend:tt)?]))*] []) => {
        {
            #[allow(unused_variables)]
            let ($($name,)*) = $call.arguments::<($($type,)*)>()?;
            let value = $this.$method($($($lend)? $name),*);
            $crate::__managed! { @answer $call $throws value }
        }
    };
    (@answer $call:ident [] $value:ident) => {
        return $call.answer(&$value);
    };
    (@answer $call:ident [throws] $value:ident) => {
        return match $value {
            ::core::result::Result::Ok(value) => $call.answer(&value),
            ::core::result::Result::Err(error) => {
                ::core::result::Result::Err(::core::convert::Into::into(error))
            }
        };
    };
}
