# The models as functions of Nx.Defn, step by step what Axon's and Bumblebee's layers do.

defmodule Bench.Layers do
  import Nx.Defn

  defn(dense(x, weights), do: Nx.dot(x, weights.kernel) + weights.bias)

  defn layer_norm(x, weights) do
    mean = Nx.mean(x, axes: [-1], keep_axes: true)
    variance = Nx.variance(x, axes: [-1], keep_axes: true)
    scale = weights.scale * Nx.rsqrt(variance + 1.0e-5)
    scale * (x - mean) + weights.bias
  end

  defn rms_norm(x, scale) do
    wide = Nx.as_type(x, :f32)
    mean = wide |> Nx.pow(2) |> Nx.mean(axes: [-1], keep_axes: true)
    normal = wide * Nx.rsqrt(mean + 1.0e-6)
    Nx.as_type(normal, Nx.type(x)) * scale
  end

  defn softmax(x) do
    exp = Nx.exp(x - stop_grad(Nx.reduce_max(x, axes: [-1], keep_axes: true)))
    1 / Nx.sum(exp, axes: [-1], keep_axes: true) * exp
  end

  defn(gelu(x), do: (Nx.erf(x / Nx.sqrt(Nx.tensor(2, type: Nx.type(x)))) + 1) * x / 2)

  defn(silu(x), do: Nx.sigmoid(x) * x)

  # Of `{batch, tokens, heads, head}` each.
  defn attention(query, key, value, bias) do
    query = Nx.transpose(query, axes: [0, 2, 1, 3])
    key = Nx.transpose(key, axes: [0, 2, 1, 3])
    value = Nx.transpose(value, axes: [0, 2, 1, 3])
    depth = Nx.axis_size(query, -1)
    scores = Nx.dot(query, [3], [0, 1], key, [3], [0, 1])
    scores = scores * (1 / Nx.as_type(Nx.sqrt(depth), Nx.type(query))) + bias
    out = scores |> softmax() |> Nx.dot([3], [0, 1], value, [2], [0, 1])
    Nx.transpose(out, axes: [0, 2, 1, 3])
  end

  deftransform(split(x, heads), do: Nx.reshape(x, {1, Nx.axis_size(x, 1), heads, :auto}))
  deftransform(joined(x), do: Nx.reshape(x, {1, Nx.axis_size(x, 1), :auto}))
end

defmodule Bench.Encoder do
  import Nx.Defn
  import Bench.Layers

  @doc "A function of the input and the blocks' weights."
  def forward(size) do
    fn x, blocks ->
      blocks |> Tuple.to_list() |> Enum.reduce(x, &block(&2, &1, heads: size.heads))
    end
  end

  defnp block(x, weights, opts \\ []) do
    query = x |> dense(weights.query) |> split(opts[:heads])
    key = x |> dense(weights.key) |> split(opts[:heads])
    value = x |> dense(weights.value) |> split(opts[:heads])
    attended = query |> attention(key, value, 0) |> joined() |> dense(weights.out)
    x = layer_norm(x + attended, weights.attention_norm)
    layer_norm(x + (x |> dense(weights.up) |> gelu() |> dense(weights.down)), weights.output_norm)
  end
end

defmodule Bench.Decoder do
  import Nx.Defn
  import Bench.Layers

  @base 10_000

  @doc """
  A function of the input, the position, the blocks' caches and their weights, which gives what comes
  out and the caches.

  The caches hold each key and value once (`:grouped`), or as often as there are query heads for it, as
  Bumblebee's do (`:repeated`).
  """
  def step(size, cache) when cache in [:grouped, :repeated] do
    opts = [heads: size.heads, groups: size.groups, cache: cache]

    fn x, offset, caches, blocks ->
      {caches, x} =
        Enum.zip(Tuple.to_list(caches), Tuple.to_list(blocks))
        |> Enum.map_reduce(x, fn {cache, weights}, x ->
          {x, cache} = block(x, offset, cache, weights, opts)
          {cache, x}
        end)

      {x, List.to_tuple(caches)}
    end
  end

  @doc "Caches as `:repeated` has them, from those of `:grouped`."
  def repeated(caches, size) do
    Nx.Defn.Composite.traverse(caches, &repeat(&1, heads: size.heads, groups: size.groups))
  end

  defnp block(x, offset, cache, weights, opts \\ []) do
    normal = rms_norm(x, weights.attention_norm)
    query = normal |> Nx.dot(weights.query) |> split(opts[:heads]) |> rms_norm(weights.query_norm)
    key = normal |> Nx.dot(weights.key) |> split(opts[:groups]) |> rms_norm(weights.key_norm)
    value = normal |> Nx.dot(weights.value) |> split(opts[:groups])
    {cos, sin} = rotation(offset, query, cache)
    {key, value, cache} = cached(rotated(key, cos, sin), value, offset, cache, opts)
    attended = attention(rotated(query, cos, sin), key, value, causal(offset, key, x))
    x = x + (attended |> joined() |> Nx.dot(weights.out))
    normal = rms_norm(x, weights.output_norm)
    up = Nx.dot(normal, weights.up)
    {x + Nx.dot(up * silu(Nx.dot(normal, weights.gate)), weights.down), cache}
  end

  # Cosines and sines of all positions, and of them those of this one.
  defnp rotation(offset, query, cache) do
    head = Nx.axis_size(query, -1)
    positions = Nx.iota({Nx.axis_size(cache.key, 1)})
    range = Nx.iota({half(head)}) * 2 / head
    angle = Nx.outer(positions, 1.0 / Nx.pow(@base, range))
    angle = Nx.concatenate([angle, angle], axis: -1)
    at = Nx.reshape(offset, {1, 1})
    {at_position(Nx.cos(angle), at, query), at_position(Nx.sin(angle), at, query)}
  end

  defnp(at_position(table, at, query),
    do: table |> Nx.take(at) |> Nx.new_axis(2) |> Nx.as_type(Nx.type(query))
  )

  defnp(rotated(x, cos, sin), do: x * cos + rotate_half(x) * sin)

  defnp rotate_half(x) do
    size = half(Nx.axis_size(x, -1))
    Nx.concatenate([-x[[.., .., .., size..-1//1]], x[[.., .., .., 0..(size - 1)//1]]], axis: -1)
  end

  deftransformp(half(size), do: div(size, 2))

  defnp cached(key, value, offset, cache, opts \\ []) do
    case opts[:cache] do
      :grouped ->
        {key, value} = {put(cache.key, key, offset), put(cache.value, value, offset)}
        {repeat(key, opts), repeat(value, opts), %{key: key, value: value}}

      :repeated ->
        {key, value} = {repeat(key, opts), repeat(value, opts)}
        {key, value} = {put(cache.key, key, offset), put(cache.value, value, offset)}
        {key, value, %{key: key, value: value}}
    end
  end

  defnp(put(cache, new, offset), do: Nx.put_slice(cache, [0, offset, 0, 0], new))

  deftransformp repeat(x, opts) do
    times = div(opts[:heads], opts[:groups])
    x |> Nx.new_axis(3) |> Nx.tile([1, 1, 1, times, 1]) |> Nx.flatten(axes: [2, 3])
  end

  # What is added to scores: nothing up to this position, and beyond it the least number there is.
  defnp causal(offset, key, x) do
    mask = Nx.iota({1, 1}) + offset >= Nx.iota({1, Nx.axis_size(key, 1)})
    mask = Nx.reshape(mask, {1, 1, 1, :auto})
    type = Nx.type(x)
    Nx.select(mask, Nx.tensor(0.0, type: type), Nx.Constants.min_finite(type))
  end
end
