defmodule Emily.Generation.Cache do
  @moduledoc """
  Keys and values of the positions that a language model has seen, for attention without computing them again.

  A cache is a container: it is an argument and a result of functions of `Nx.Defn`, and its functions that say so can be
  called there. A model stores and attends in each layer, and advances once after the last:

      defn block(x, params, cache, layer) do
        {query, key, value} = projections(x, params)
        query = Emily.Fast.rope(query, Cache.positions(cache))
        key = Emily.Fast.rope(key, Cache.positions(cache))
        Cache.attention(cache, layer, query, key, value)
      end

      defn forward(params, tokens, cache) do
        {x, cache} = blocks(tokens, params, cache)
        {logits(x, params), Cache.advance(cache, Nx.axis_size(tokens, 1))}
      end

  How many positions a cache holds is a tensor on the device, so that a step depends on no value that the host would have
  to wait for. Mark the cache with `Nx.donatable/1` when it is passed to a compiled function: `Emily.Compiler` then writes
  new positions in place, and a step does not copy what is held.

  ## Kinds

    * `:growing` - has all positions. Room is made by `grow/3` on the host, in steps: a compiled function is one for each
      capacity. Capacities are multiples of `:step` by 1 to 8, then by 10, 12, 14, 16, 20, 24, …, that is four for each
      doubling. So there are few of them however long the text, all callers have the same ones, and at most a fifth of a long
      cache is empty
    * `{:rotating, window, keep}` - has `window` positions at most: the first `keep` ones and those before the present
      one. A position attends to these, however many are computed at a time: the first `keep`, and the
      `window - keep` up to itself
    * `{:rotating, window, keep, spare}` - the same, with room for `spare` more positions that nobody attends to, so that up to
      as many can be trimmed

  A list has the kind of each layer, for models in which they differ.

  ## Quantized

  With `:bits` keys and values are held as `Emily.Quantization` quantizes them: with 8 bits in about half the memory that `:bf16`
  takes, with 4 in about a quarter. They are quantized when they are stored and stay so. Attention is computed in `:f32`
  from the quantized numbers, or, from 16 positions at a time on, from all of them dequantized first. What a position
  sees of itself is quantized, too.

  ## Padding

  Prompts of different lengths are padded on the left to the longest one. `pad/2` says how many of each row's first
  positions are padding: no other position of the row attends to them, and the row's `positions/1` start after them.

  ## Copies

  Tensors do not change, so a cache is its own copy, and may be continued in several ways. Only what was donated is gone
  afterwards: `copy/1` is for a cache that is continued with donation and needed again.
  """

  import Kernel, except: [length: 1]
  import Nx.Defn, only: [deftransform: 2]

  alias Emily.Generation.Cache.{Archive, Growing, Options, Rotating, Window}

  @derive {Nx.Container, containers: [:layers, :position, :starts], keep: [:step]}
  @enforce_keys [:layers, :position, :starts, :step]
  defstruct [:layers, :position, :starts, :step]

  @typedoc """
  A cache: a tuple of layers, the scalar of how many positions are held, and each row's padding, or `{}`.
  """
  @type t :: %__MODULE__{
          layers: tuple(),
          position: Nx.Tensor.t(),
          starts: Nx.Tensor.t() | {},
          step: pos_integer()
        }

  @type kind ::
          :growing
          | {:rotating, window :: pos_integer(), keep :: non_neg_integer()}
          | {:rotating, pos_integer(), non_neg_integer(), spare :: non_neg_integer()}

  @doc """
  An empty cache, on the default backend.

  ## Options

    * `:layers` - how many layers attend; required
    * `:heads` - how many heads keys and values have, which may be fewer than the queries'; required
    * `:head_size` - the features of each; required
    * `:value_size` - the features of the values where these have others; `:head_size` when absent
    * `:batch` - how many rows; `1` when absent
    * `:type` - what is held; `:bf16` when absent. Queries should be of the same type, or all that is held is converted for
      each of them
    * `:bits` - how many each number is quantized to, 2, 3, 4, 5, 6 or 8; numbers of `:type` are held when absent
    * `:group_size` - how many quantized numbers have a scale in common, 32, 64 or 128, of which `:head_size` and `:value_size` are
      multiples; `64` when absent
    * `:kind` - see [above](#module-kinds), or a list of one for each layer; `:growing` when absent
    * `:step` - what capacities of growing layers are multiples of; `256` when absent
    * `:capacity` - how many positions growing layers are to have room for; `:step` when absent

  ## Examples

      iex> cache = Emily.Generation.Cache.new(layers: 2, heads: 4, head_size: 8, capacity: 300)
      iex> Emily.Generation.Cache.capacity(cache)
      512

      iex> Emily.Generation.Cache.new(layers: 2, heads: 4, head_size: 0)
      ** (ArgumentError) expected :head_size to be a positive integer, got: 0
  """
  @spec new(keyword()) :: t()
  def new(opts) do
    opts = Options.validate!(opts)

    %__MODULE__{
      layers: opts.kinds |> Enum.map(&layer(&1, opts)) |> List.to_tuple(),
      position: Nx.tensor(0, type: :s32),
      starts: {},
      step: opts.step
    }
  end

  defp layer(:growing, opts), do: Growing.new(opts, Growing.rounded(opts.capacity, opts.step))
  defp layer({:rotating, _, _, _} = kind, opts), do: Rotating.new(opts, kind)

  @doc """
  Stores what a layer computed for some positions, and attends to them and what is held. Works in `defn`.

  `query` is `{batch, heads, positions, features}`; `key` and `value` are that with the cache's heads, of which each serves
  several of the query's in a row. All are of the positions that follow those held. Returns the attention's
  result, like the query, and the cache. The cache does not count the positions before `advance/2`.

  A growing cache must have room for the positions, which `grow/3` makes. In `defn` how many are held is not known when the
  function is compiled, and only more positions than the whole capacity are refused there.

  ## Options

    * `:scale` and `:sinks` - as those of `Emily.Fast.scaled_dot_product_attention/4`
    * `:window` - how many positions up to itself each attends to, for models with a sliding window; all when absent. A
      rotating layer attends to its own window where that is smaller, and always to the first ones it keeps

  ## Examples

      iex> alias Emily.Generation.Cache
      iex> cache = Cache.new(layers: 1, heads: 1, head_size: 2, type: :f32)
      iex> x = Nx.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
      iex> {out, cache} = Cache.attention(cache, 0, x, x, x)
      iex> out |> Nx.multiply(100) |> Nx.round() |> Nx.to_flat_list()
      [100.0, 0.0, 33.0, 67.0]
      iex> cache = Cache.advance(cache, 2)
      iex> token = Nx.tensor([[[[1.0, 1.0]]]])
      iex> {out, _cache} = Cache.attention(cache, 0, token, token, token)
      iex> out |> Nx.multiply(100) |> Nx.round() |> Nx.to_flat_list()
      [75.0, 75.0]

  Raises `ArgumentError` for a layer that is not there, shapes that do not fit, and, outside of `defn`, where there is no
  room.
  """
  deftransform attention(cache, layer, query, key, value, opts \\ []) do
    opts = Keyword.validate!(opts, [:scale, :sinks, :window])

    count =
      if is_struct(cache, __MODULE__), do: tuple_size(cache.layers), else: not_a_cache!(cache)

    if not (is_integer(layer) and layer in 0..(count - 1)) do
      raise ArgumentError, "expected a layer from 0 to #{count - 1}, got: #{inspect(layer)}"
    end

    held = elem(cache.layers, layer)
    {query, key, value} = Options.tensors!(held, query, key, value)
    positions = Nx.axis_size(query, 2)
    fits!(held, positions, cache.position)
    window = Window.new(cache, positions, opts[:window])

    {out, held} =
      held.__struct__.attend(held, query, key, value, window, Keyword.delete(opts, :window))

    {out, %{cache | layers: put_elem(cache.layers, layer, held)}}
  end

  @spec not_a_cache!(term()) :: no_return()
  defp not_a_cache!(other),
    do: raise(ArgumentError, "expected an Emily.Generation.Cache, got: #{inspect(other)}")

  defp fits!(layer, positions, position) do
    case room(layer) do
      :infinity ->
        :ok

      capacity when positions > capacity ->
        raise ArgumentError,
              "expected at most #{capacity} positions, which is the cache's capacity, got: #{positions}"

      capacity ->
        if not match?(%Nx.Defn.Expr{}, position.data) and
             Nx.to_number(position) + positions > capacity do
          raise ArgumentError,
                "expected room for #{positions} positions after #{Nx.to_number(position)}, which grow/3 makes, " <>
                  "got: a capacity of #{capacity}"
        end
    end
  end

  defp room(%module{} = layer), do: module.capacity(layer)

  @doc """
  Counts `count` more positions as held, an integer or a scalar of integers. Works in `defn`.

  ## Examples

      iex> cache = Emily.Generation.Cache.new(layers: 1, heads: 1, head_size: 2)
      iex> cache |> Emily.Generation.Cache.advance(3) |> Emily.Generation.Cache.length() |> Nx.to_number()
      3
  """
  deftransform advance(%__MODULE__{} = cache, count) do
    %{cache | position: Nx.add(cache.position, count!(count))}
  end

  @doc """
  Forgets the last `count` positions, an integer or a scalar of integers; at most all of them. Works in `defn`.

  That serves another continuation of the same text, and the tokens of a draft that were not accepted. What is computed next
  is the same as if the positions had never been.

  A rotating layer has overwritten what came before its window. Outside of `defn` `ArgumentError` is raised where
  that makes a difference: when more positions are held than the layer has room for, its spare ones included, and
  `count` is more than its spare ones. In `defn`, where nobody knows how many positions are held, `ArgumentError` is raised
  unless `count` is an integer up to the spare ones of all rotating layers, or there are spare ones and `count` is a tensor. The
  spare ones are how many positions may be missing from the most that were ever held: who trims twice in a row, or passes a
  tensor, answers for that, and where it does not hold attention sees positions that are gone.

  ## Examples

      iex> cache = Emily.Generation.Cache.new(layers: 1, heads: 1, head_size: 2)
      iex> cache = Emily.Generation.Cache.advance(cache, 3)
      iex> cache |> Emily.Generation.Cache.trim(2) |> Emily.Generation.Cache.length() |> Nx.to_number()
      1
  """
  deftransform trim(%__MODULE__{} = cache, count) do
    scalar = count!(count)
    for layer <- Tuple.to_list(cache.layers), do: Options.trims!(layer, cache.position, count)
    %{cache | position: cache.position |> Nx.subtract(scalar) |> Nx.max(0)}
  end

  defp count!(count) when is_integer(count) and count >= 0, do: Nx.tensor(count, type: :s32)

  defp count!(%Nx.Tensor{shape: {}, type: {kind, _size}} = count) when kind in [:s, :u],
    do: Nx.as_type(count, :s32)

  defp count!(other) do
    raise ArgumentError,
          "expected a count that is an integer from 0 on or a scalar of integers, got: #{inspect(other)}"
  end

  @doc """
  How many positions are held, padding included, as a scalar of `:s32`. Works in `defn`.
  """
  deftransform length(%__MODULE__{} = cache) do
    cache.position
  end

  @doc """
  Where the next position stands, as `Emily.Fast.rope/3` takes it: a scalar of `:s32`, or one for each row
  of a padded batch, less its padding. Works in `defn`.
  """
  deftransform positions(%__MODULE__{} = cache) do
    if cache.starts == {}, do: cache.position, else: Nx.subtract(cache.position, cache.starts)
  end

  @doc """
  Has the first positions of each row be padding, as many as `starts` has for it: a tensor or list of integers,
  one for each row. Works in `defn`.

  ## Examples

      iex> cache = Emily.Generation.Cache.new(layers: 1, heads: 1, head_size: 2, batch: 2)
      iex> cache = cache |> Emily.Generation.Cache.pad([0, 2]) |> Emily.Generation.Cache.advance(5)
      iex> cache |> Emily.Generation.Cache.positions() |> Nx.to_flat_list()
      [5, 3]

  Raises `ArgumentError` if there is not one for each row, or a rotating layer keeps first positions: rows would differ in
  where these are.
  """
  deftransform pad(%__MODULE__{} = cache, starts) do
    %{cache | starts: Options.starts!(starts, cache)}
  end

  @doc """
  Makes room for `room` more positions. Called on the host, not in `defn`.

  The cache is the same one if it has room already, or if all its layers rotate. Otherwise what is held is copied.

  ## Options

    * `:length` - how many positions are held, where the caller knows; when absent it is read from the device, which has
      to come to the end of its work for that

  ## Examples

      iex> cache = Emily.Generation.Cache.new(layers: 1, heads: 1, head_size: 2, step: 16)
      iex> cache |> Emily.Generation.Cache.grow(100) |> Emily.Generation.Cache.capacity()
      112
  """
  @spec grow(t(), non_neg_integer(), keyword()) :: t()
  def grow(%__MODULE__{} = cache, room, opts \\ []) do
    opts = Keyword.validate!(opts, [:length])
    Options.whole!(room, "room for an integer from 0 on")

    case capacity(cache) do
      :infinity ->
        cache

      capacity ->
        held = opts[:length] || Nx.to_number(cache.position)
        needed = Options.whole!(held, ":length to be an integer from 0 on") + room
        if needed > capacity, do: grown(cache, Growing.rounded(needed, cache.step)), else: cache
    end
  end

  defp grown(cache, capacity), do: on_layers(cache, & &1.__struct__.grow(&1, capacity))

  defp on_layers(cache, fun) do
    layers = cache.layers |> Tuple.to_list() |> Enum.map(fun) |> List.to_tuple()
    %{cache | layers: layers}
  end

  @doc """
  How many positions there is room for in all, or `:infinity` if all layers rotate.
  """
  @spec capacity(t()) :: pos_integer() | :infinity
  def capacity(%__MODULE__{} = cache) do
    # Atoms are greater than integers.
    cache.layers |> Tuple.to_list() |> Enum.map(&room/1) |> Enum.min()
  end

  @doc """
  The cache with memory of its own. Called on the host, not in `defn`.
  """
  @spec copy(t()) :: t()
  def copy(%__MODULE__{} = cache) do
    Nx.Defn.Composite.traverse(cache, fn tensor ->
      starts = List.duplicate(0, Nx.rank(tensor))
      Nx.put_slice(tensor, starts, Nx.slice(tensor, starts, Enum.map(starts, fn _ -> 1 end)))
    end)
  end

  @doc """
  Writes a cache to a safetensors file, from which `load/2` reads it: a long prompt needs to be computed only once.

  Of growing layers what is held is written. Raises `ArgumentError` if the file cannot be written.

  ## Examples

      iex> alias Emily.Generation.Cache
      iex> path = Path.join(System.tmp_dir!(), "emily-#{System.pid()}-cache.safetensors")
      iex> cache = Cache.new(layers: 1, heads: 1, head_size: 2) |> Cache.advance(3)
      iex> Cache.save(cache, path)
      :ok
      iex> Cache.load(path) |> Cache.length() |> Nx.to_number()
      3
      iex> File.rm!(path)
      :ok
  """
  @spec save(t(), Path.t()) :: :ok
  def save(%__MODULE__{} = cache, path), do: Archive.write(cache, path)

  @doc """
  Reads a cache that `save/2` has written, as tensors of `Emily.Backend`.

  Growing layers have room for what is held and what is left up to the next capacity.

  ## Options

    * `:device` - where it is to be, `:cpu` or `:gpu`; the process' default device when absent

  Raises `ArgumentError` if the file cannot be read or has no cache.
  """
  @spec load(Path.t(), keyword()) :: t()
  def load(path, opts \\ []), do: Archive.read(path, Keyword.validate!(opts, [:device]))
end
