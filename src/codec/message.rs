//! `message!`: both traits for structs and enums, without a procedural macro.
//!
//! One arm a step, named by what it does: items are taken one by one, their generic parameters are read
//! into three lists (as declared, by name, and the types among them), a `where` clause is put aside,
//! then the item is written out as it stood, with its implementations behind it.

/// Declares structs and enums that are messages: [`Encode`](crate::Encode) and
/// [`Decode`](crate::Decode) are implemented for them.
///
/// The declarations are plain Rust, with attributes, visibility, type and `const` parameters, bounds
/// and `where` clauses. Every field's type must be a message itself, and so must every type parameter
/// be. Lifetimes are not taken (what is decoded borrows nothing), nor default type parameters, nor `cfg`
/// on a field or variant.
///
/// Fields travel in the order of declaration, without names; an enum's variant as its place among the
/// variants. Both sides must therefore be built from the same declaration.
///
/// # Examples
/// ```
/// use std::collections::HashMap;
///
/// multiproc::message! {
///     /// What a worker is told.
///     #[derive(Debug, Clone, PartialEq)]
///     pub enum Job {
///         Stop,
///         Hash(String),
///         Resize { path: String, size: (u32, u32) },
///     }
///
///     #[derive(Debug, PartialEq)]
///     pub struct Batch<T: Clone> {
///         pub jobs: Vec<T>,
///         pub tags: HashMap<String, u64>,
///     }
///
///     /// Types may contain themselves, up to [`Decoder::MAX_DEPTH`](multiproc::Decoder::MAX_DEPTH).
///     #[derive(Debug, PartialEq)]
///     enum Tree {
///         Leaf,
///         Node(Box<Tree>, i32, Box<Tree>),
///     }
/// }
///
/// let batch = Batch { jobs: vec![Job::Stop, Job::Hash("a".to_string())], tags: HashMap::new() };
/// let bytes = multiproc::to_bytes(&batch)?;
/// assert_eq!(multiproc::from_bytes::<Batch<Job>>(&bytes)?, batch);
///
/// let tree = Tree::Node(Box::new(Tree::Leaf), 1, Box::new(Tree::Leaf));
/// assert_eq!(multiproc::from_bytes::<Tree>(&multiproc::to_bytes(&tree)?)?, tree);
/// # Ok::<(), multiproc::Error>(())
/// ```
#[macro_export]
macro_rules! message {
    ($($items:tt)*) => { $crate::__message! { @items $($items)* } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __message {
    // One item after the other; its head is everything up to the name. Those without parameters go the
    // short way, since each step counts against the compiler's recursion limit.
    (@items) => {};
    (@items $(#[$meta:meta])* $vis:vis $kind:ident $name:ident { $($fields:tt)* } $($rest:tt)*) => {
        $crate::__message! {
            @declare {[$(#[$meta])* $vis $kind $name] $kind $name} [[] [] []] [] { $($fields)* }
        }
        $crate::__message! { @items $($rest)* }
    };
    (@items $(#[$meta:meta])* $vis:vis $kind:ident $name:ident ($($fields:tt)*); $($rest:tt)*) => {
        $crate::__message! {
            @declare {[$(#[$meta])* $vis $kind $name] $kind $name} [[] [] []] [] ($($fields)*);
        }
        $crate::__message! { @items $($rest)* }
    };
    (@items $(#[$meta:meta])* $vis:vis $kind:ident $name:ident; $($rest:tt)*) => {
        $crate::__message! {
            @declare {[$(#[$meta])* $vis $kind $name] $kind $name} [[] [] []] [] ;
        }
        $crate::__message! { @items $($rest)* }
    };
    (@items $(#[$meta:meta])* $vis:vis $kind:ident $name:ident $($rest:tt)*) => {
        $crate::__message! { @generics {[$(#[$meta])* $vis $kind $name] $kind $name} $($rest)* }
    };

    // The generic parameters: [as declared] [names] [types].
    (@generics $item:tt < $($rest:tt)*) => {
        $crate::__message! { @parameter $item [] [] [] $($rest)* }
    };
    (@generics $item:tt $($rest:tt)*) => {
        $crate::__message! { @body $item [[] [] []] $($rest)* }
    };

    (@parameter $item:tt $declared:tt $names:tt $types:tt > $($rest:tt)*) => {
        $crate::__message! { @body $item [$declared $names $types] $($rest)* }
    };
    (@parameter $item:tt $declared:tt $names:tt $types:tt $lifetime:lifetime $($rest:tt)*) => {
        ::core::compile_error!("message! takes no lifetimes: what is decoded borrows nothing");
    };
    (@parameter $item:tt [$($declared:tt)*] [$($names:tt)*] $types:tt
        const $name:ident : $type:ty, $($rest:tt)*) => {
        $crate::__message! {
            @parameter $item [$($declared)* const $name: $type,] [$($names)* $name,] $types $($rest)*
        }
    };
    (@parameter $item:tt [$($declared:tt)*] [$($names:tt)*] $types:tt
        const $name:ident : $type:ty > $($rest:tt)*) => {
        $crate::__message! {
            @body $item [[$($declared)* const $name: $type,] [$($names)* $name,] $types] $($rest)*
        }
    };
    (@parameter $item:tt $declared:tt $names:tt $types:tt $name:ident : $($rest:tt)*) => {
        $crate::__message! { @bound $item $declared $names $types $name [] [] $($rest)* }
    };
    (@parameter $item:tt $declared:tt $names:tt $types:tt $name:ident $($rest:tt)*) => {
        $crate::__message! { @bound $item $declared $names $types $name [] [] $($rest)* }
    };

    // The bounds of one type parameter, up to the comma or bracket that ends it. The second list holds
    // the angle brackets that are open inside the bounds.
    (@bound $item:tt [$($declared:tt)*] [$($names:tt)*] [$($types:tt)*] $name:ident
        [$($bound:tt)*] [] , $($rest:tt)*) => {
        $crate::__message! {
            @parameter $item
            [$($declared)* $name: $($bound)*,] [$($names)* $name,] [$($types)* $name] $($rest)*
        }
    };
    (@bound $item:tt [$($declared:tt)*] [$($names:tt)*] [$($types:tt)*] $name:ident
        [$($bound:tt)*] [] > $($rest:tt)*) => {
        $crate::__message! {
            @body $item
            [[$($declared)* $name: $($bound)*,] [$($names)* $name,] [$($types)* $name]] $($rest)*
        }
    };
    (@bound $item:tt [$($declared:tt)*] [$($names:tt)*] [$($types:tt)*] $name:ident
        [$($bound:tt)*] [<] >> $($rest:tt)*) => {
        $crate::__message! {
            @body $item
            [[$($declared)* $name: $($bound)* >,] [$($names)* $name,] [$($types)* $name]] $($rest)*
        }
    };
    (@bound $item:tt $declared:tt $names:tt $types:tt $name:ident
        [$($bound:tt)*] [$($open:tt)*] < $($rest:tt)*) => {
        $crate::__message! {
            @bound $item $declared $names $types $name [$($bound)* <] [$($open)* <] $($rest)*
        }
    };
    (@bound $item:tt $declared:tt $names:tt $types:tt $name:ident
        [$($bound:tt)*] [< $($open:tt)*] > $($rest:tt)*) => {
        $crate::__message! {
            @bound $item $declared $names $types $name [$($bound)* >] [$($open)*] $($rest)*
        }
    };
    (@bound $item:tt $declared:tt $names:tt $types:tt $name:ident
        [$($bound:tt)*] [< < $($open:tt)*] >> $($rest:tt)*) => {
        $crate::__message! {
            @bound $item $declared $names $types $name [$($bound)* >>] [$($open)*] $($rest)*
        }
    };
    (@bound $item:tt $declared:tt $names:tt $types:tt $name:ident
        [] [] = $($rest:tt)*) => {
        ::core::compile_error!("message! takes no default type parameters");
    };
    (@bound $item:tt $declared:tt $names:tt $types:tt $name:ident
        [$($bound:tt)*] $open:tt $next:tt $($rest:tt)*) => {
        $crate::__message! {
            @bound $item $declared $names $types $name [$($bound)* $next] $open $($rest)*
        }
    };

    // The body, and the `where` clause before it or, for a tuple, behind it.
    (@body $item:tt $generics:tt where $($rest:tt)*) => {
        $crate::__message! { @where $item $generics [] [] $($rest)* }
    };
    (@body $item:tt $generics:tt ($($fields:tt)*) where $($rest:tt)*) => {
        $crate::__message! { @where $item $generics [] [($($fields)*)] $($rest)* }
    };
    (@body $item:tt $generics:tt ($($fields:tt)*); $($rest:tt)*) => {
        $crate::__message! { @declare $item $generics [] ($($fields)*); }
        $crate::__message! { @items $($rest)* }
    };
    (@body $item:tt $generics:tt { $($fields:tt)* } $($rest:tt)*) => {
        $crate::__message! { @declare $item $generics [] { $($fields)* } }
        $crate::__message! { @items $($rest)* }
    };
    (@body $item:tt $generics:tt ; $($rest:tt)*) => {
        $crate::__message! { @declare $item $generics [] ; }
        $crate::__message! { @items $($rest)* }
    };

    (@where $item:tt $generics:tt $clauses:tt [] { $($fields:tt)* } $($rest:tt)*) => {
        $crate::__message! { @declare $item $generics $clauses { $($fields)* } }
        $crate::__message! { @items $($rest)* }
    };
    (@where $item:tt $generics:tt $clauses:tt [$($tuple:tt)?] ; $($rest:tt)*) => {
        $crate::__message! { @declare $item $generics $clauses $($tuple)? ; }
        $crate::__message! { @items $($rest)* }
    };
    (@where $item:tt $generics:tt [$($clauses:tt)*] $tuple:tt $next:tt $($rest:tt)*) => {
        $crate::__message! { @where $item $generics [$($clauses)* $next] $tuple $($rest)* }
    };

    // The item as it stood, then its implementations.
    (@declare {[$($head:tt)*] $kind:ident $name:ident} [[$($declared:tt)*] $names:tt $types:tt]
        [$($clauses:tt)*] ($($fields:tt)*);) => {
        $($head)* <$($declared)*> ($($fields)*) where $($clauses)*;
        $crate::__message! {
            @implement $kind $name [[$($declared)*] $names $types] [$($clauses)*] ($($fields)*)
        }
    };
    (@declare {[$($head:tt)*] $kind:ident $name:ident} [[$($declared:tt)*] $names:tt $types:tt]
        [$($clauses:tt)*] { $($fields:tt)* }) => {
        $($head)* <$($declared)*> where $($clauses)* { $($fields)* }
        $crate::__message! {
            @implement $kind $name [[$($declared)*] $names $types] [$($clauses)*] { $($fields)* }
        }
    };
    (@declare {[$($head:tt)*] $kind:ident $name:ident} [[$($declared:tt)*] $names:tt $types:tt]
        [$($clauses:tt)*] ;) => {
        $($head)* <$($declared)*> where $($clauses)*;
        $crate::__message! {
            @implement $kind $name [[$($declared)*] $names $types] [$($clauses)*] {}
        }
    };

    (@implement struct $name:ident [[$($declared:tt)*] [$($names:tt)*] [$($type:ident)*]]
        [$($clauses:tt)*] $fields:tt) => {
        impl<$($declared)*> $crate::Encode for $name<$($names)*>
        where
            $($type: $crate::Encode,)*
            $($clauses)*
        {
            #[allow(irrefutable_let_patterns, unused_variables)]
            fn encode(&self, encoder: &mut $crate::Encoder<'_>) {
                $crate::__message! { @encode self encoder [] [Self] $fields }
            }
        }

        impl<$($declared)*> $crate::Decode for $name<$($names)*>
        where
            $($type: $crate::Decode,)*
            $($clauses)*
        {
            #[allow(unused_variables)]
            fn decode(decoder: &mut $crate::Decoder<'_>) -> $crate::Result<Self> {
                ::core::result::Result::Ok($crate::__message! { @build decoder [Self] $fields })
            }
        }
    };
    (@implement enum $name:ident [[$($declared:tt)*] [$($names:tt)*] [$($type:ident)*]]
        [$($clauses:tt)*] { $(
            $(#[$meta:meta])*
            $variant:ident $(($($tuple:tt)*))? $({$($named:tt)*})? $(= $discriminant:expr)?
        ),* $(,)? }) => {
        impl<$($declared)*> $crate::Encode for $name<$($names)*>
        where
            $($type: $crate::Encode,)*
            $($clauses)*
        {
            #[allow(irrefutable_let_patterns, unused_variables)]
            fn encode(&self, encoder: &mut $crate::Encoder<'_>) {
                // Counts the variants.
                #[allow(clippy::upper_case_acronyms, clippy::enum_variant_names, non_camel_case_types)]
                enum __Place { $($variant,)* }
                // Does not compile if a variant is missing, as one could be in a list written apart.
                match *self { $( Self::$variant { .. } => {} )* }
                $( $crate::__message! {
                    @encode self encoder [__Place::$variant] [Self::$variant]
                    $(($($tuple)*))? $({$($named)*})?
                } )*
            }
        }

        impl<$($declared)*> $crate::Decode for $name<$($names)*>
        where
            $($type: $crate::Decode,)*
            $($clauses)*
        {
            fn decode(decoder: &mut $crate::Decoder<'_>) -> $crate::Result<Self> {
                #[allow(clippy::upper_case_acronyms, clippy::enum_variant_names, non_camel_case_types)]
                enum __Place { $($variant,)* }
                let place = decoder.variant()?;
                $( if place == __Place::$variant as ::core::primitive::u32 {
                    return ::core::result::Result::Ok($crate::__message! {
                        @build decoder [Self::$variant] $(($($tuple)*))? $({$($named)*})?
                    });
                } )*
                $crate::Decoder::no_variant(::core::stringify!($name), place)
            }
        }
    };

    // Encodes what `this` holds if it has this form; for a variant its place first.
    (@encode $this:ident $encoder:ident [$($place:tt)*] [$($form:tt)*]) => {
        if let $($form)* = $this {
            $crate::__message! { @place $encoder $($place)* }
            return;
        }
    };
    (@encode $this:ident $encoder:ident [$($place:tt)*] [$($form:tt)*] { $(
        $(#[$meta:meta])* $vis:vis $field:ident : $type:ty
    ),* $(,)? }) => {
        if let $($form)* { $($field),* } = $this {
            $crate::__message! { @place $encoder $($place)* }
            $( $crate::Encode::encode($field, $encoder); )*
            return;
        }
    };
    (@encode $this:ident $encoder:ident $place:tt $form:tt ( $(
        $(#[$meta:meta])* $vis:vis $type:ty
    ),* $(,)? )) => {
        $crate::__message! { @tuple $this $encoder $place $form [] $([$type])* }
    };

    // Gives each field of a tuple a name: the same word, but another one in each step, by hygiene.
    (@tuple $this:ident $encoder:ident $place:tt $form:tt [$($field:ident)*] [$type:ty] $($rest:tt)*) => {
        $crate::__message! { @tuple $this $encoder $place $form [$($field)* field] $($rest)* }
    };
    (@tuple $this:ident $encoder:ident [$($place:tt)*] [$($form:tt)*] [$($field:ident)*]) => {
        if let $($form)* ( $($field),* ) = $this {
            $crate::__message! { @place $encoder $($place)* }
            $( $crate::Encode::encode($field, $encoder); )*
            return;
        }
    };

    (@place $encoder:ident) => {};
    (@place $encoder:ident $($place:tt)+) => {
        $encoder.bytes(&($($place)+ as ::core::primitive::u32).to_le_bytes());
    };

    // A struct or a variant, made of what is decoded field by field.
    (@build $decoder:ident [$($form:tt)*]) => { $($form)* };
    (@build $decoder:ident [$($form:tt)*] { $(
        $(#[$meta:meta])* $vis:vis $field:ident : $type:ty
    ),* $(,)? }) => {
        $($form)* { $( $field: <$type as $crate::Decode>::decode($decoder)?, )* }
    };
    (@build $decoder:ident [$($form:tt)*] ( $(
        $(#[$meta:meta])* $vis:vis $type:ty
    ),* $(,)? )) => {
        $($form)* ( $( <$type as $crate::Decode>::decode($decoder)?, )* )
    };
}
