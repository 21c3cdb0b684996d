defmodule Emily.Generation.Store do
  @moduledoc false
  # What the driver may ask of a model's cache, whatever container that is.

  alias Emily.Generation.{Cache, Request}

  @enforce_keys [:new, :room, :grow, :trim, :pad, :try_trim]
  defstruct [:new, :room, :grow, :trim, :pad, :try_trim]

  @type cache :: Nx.Container.t()
  @type count :: non_neg_integer() | Nx.Tensor.t()

  @typedoc """
  `new` makes a cache for so many rows, `room` says how many positions one has, `grow` makes room for so many in
  all, `trim` forgets so many of the last ones, in `defn` as well, `try_trim` does on the host if it can, and `pad` hides so
  many of each row's first ones.
  """
  @type t :: %__MODULE__{
          new: (pos_integer() -> cache()),
          room: (cache() -> pos_integer() | :infinity),
          grow: (cache(), pos_integer() -> cache()) | nil,
          trim: (cache(), count() -> cache()) | nil,
          try_trim: (cache(), non_neg_integer() -> {:ok, cache()} | :nothing),
          pad: (cache(), Nx.Tensor.t() -> cache()) | nil
        }

  @functions [grow: 2, trim: 2, pad: 2]

  @doc "The store that the options of `Emily.Generation.new/3` describe; caches are made on `backend`."
  @spec new(map(), {module(), keyword()}) :: t()
  def new(%{cache: cache} = options, backend) do
    store = if is_function(cache, 1), do: foreign(options), else: own(options)
    %{store | new: &Nx.with_default_backend(backend, fn -> store.new.(&1) end)}
  end

  defp own(%{cache: cache} = options) do
    if not Keyword.keyword?(cache) or Keyword.has_key?(cache, :batch),
      do:
        Request.refuse(
          ":cache to be the options of Emily.Generation.Cache.new/1 but for :batch, or a function of the number of rows",
          cache
        )

    for name <- [:grow, :trim, :pad], value = options[name] do
      Request.refuse("#{inspect(name)} beside a function as :cache", value)
    end

    if options.capacity != :infinity,
      do: Request.refuse(":capacity beside a function as :cache", options.capacity)

    %__MODULE__{
      new: &Cache.new([batch: &1] ++ cache),
      room: &Cache.capacity/1,
      grow: &Cache.grow(&1, &2, length: 0),
      trim: &Cache.trim/2,
      try_trim: &try_trim/2,
      pad: &Cache.pad/2
    }
  end

  # A window may have moved on from what would be needed again.
  defp try_trim(cache, count) do
    {:ok, Cache.trim(cache, count)}
  rescue
    ArgumentError -> :nothing
  end

  defp foreign(options) do
    for {name, arity} <- @functions, fun = options[name], not is_function(fun, arity) do
      Request.refuse("#{inspect(name)} to be a function of #{arity} arguments", fun)
    end

    trim = options.trim

    %__MODULE__{
      new: options.cache,
      room: room(options.capacity),
      grow: options.grow,
      trim: trim,
      try_trim: fn cache, count -> if trim, do: {:ok, trim.(cache, count)}, else: :nothing end,
      pad: options.pad
    }
  end

  defp room(room) when is_function(room, 1), do: room

  defp room(count) when count == :infinity or (is_integer(count) and count > 0),
    do: fn _cache -> count end

  defp room(other),
    do:
      Request.refuse(
        ":capacity to be a positive integer, :infinity or a function of the cache",
        other
      )
end
