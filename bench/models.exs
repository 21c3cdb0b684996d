# Models through Emily.Compiler beside MLX's Python and JAX, as one line of JSON.
#
#     MIX_ENV=test mix run bench/models.exs [--mlx PYTHON] [--jax PYTHON] [--rounds N] [--only MODEL]…
#
# PYTHON is an interpreter that has the package, or a folder of packages. MLX's own library finds the BLAS
# that Emily uses.
# Each round runs every way once, in turns, so that whatever else the machine does meets all of them.

Code.require_file("timing.exs", __DIR__)
for file <- ["weights", "functions", "peer"], do: Code.require_file("models/#{file}.exs", __DIR__)

defmodule Bench.Models do
  import Bench.Timing
  alias Bench.{Decoder, Encoder, Peer, Weights}
  alias Emily.Native
  alias Nx.Defn.Composite

  @models ["encoder-small", "encoder-base", "decoder-small", "decoder-0.6b"]
  @rounds %{
    "encoder-small" => 100,
    "encoder-base" => 10,
    "decoder-small" => 40,
    "decoder-0.6b" => 8
  }

  # Which position of its cache a decoder writes.
  @offset 200

  # How far results may be apart. The numbers of the decoders have 8 bits, and go through 28 blocks.
  @tolerance %{"encoder" => 0.01, "decoder" => 0.5}

  # So many numbers of what they give are compared, as worker.py says.
  @beginning 64

  @switches [mlx: :string, jax: :string, rounds: :integer, only: :keep]

  def run(args) do
    {options, []} = OptionParser.parse!(args, strict: @switches)
    Nx.default_backend(Emily.Backend)
    peers = for name <- [:mlx, :jax], python = options[name], do: {name, Peer.start(name, python)}
    chosen = Keyword.get_values(options, :only)
    models = if chosen == [], do: @models, else: chosen
    JSON.encode!(for model <- models, do: measure(model, peers, options))
  end

  defp measure(model, peers, options) do
    own = load(model)

    theirs =
      for {name, peer} <- peers, name == :mlx or String.starts_with?(model, "encoder") do
        {name, peer, Peer.ask(peer, "load #{model}")}
      end

    beginnings =
      for({name, run} <- own, do: {name, run |> settled() |> beginning()}) ++
        for {peer, _port, ways} <- theirs, {way, numbers} <- ways, do: {"#{peer} #{way}", numbers}

    agree!(beginnings, model)

    counts =
      for {:mlx, peer, _ways} <- theirs,
          {way, counts} <- Peer.ask(peer, "count #{model}"),
          into: for({name, run} <- own, into: %{}, do: {"emily #{name}", operations(run.())}),
          do: {"mlx #{way}", counts}

    ways = own(own) ++ theirs(theirs, model)
    count = options[:rounds] || @rounds[model]

    # In another order each time: what ran before leaves its weights in the caches.
    rounds =
      for _ <- 1..count do
        ways |> Enum.shuffle() |> Map.new(fn {name, sample} -> {name, sample.()} end)
      end

    for {_name, peer, _ways} <- theirs, do: Peer.ask(peer, "free #{model}")

    times =
      for {name, _sample} <- ways, into: %{} do
        samples = Enum.map(rounds, & &1[name]) |> Enum.sort()
        {name, %{median: Enum.at(samples, div(count, 2)), least: hd(samples)}}
      end

    %{
      model: model,
      blocks: Weights.size(model).blocks,
      rounds: count,
      microseconds: times,
      operations: counts
    }
  end

  # What calls have in common is computed once, when a call after another one takes the same.
  defp settled(run), do: Enum.reduce(1..3, nil, fn _, _ -> computed(run.()) end)

  defp own(own),
    do: for({name, run} <- own, do: {"emily #{name}", fn -> time(fn -> computed(run.()) end) end})

  defp theirs(theirs, model) do
    for {name, peer, ways} <- theirs, {way, _numbers} <- ways do
      {"#{name} #{way}", fn -> Peer.ask(peer, "time #{model} #{way}") end}
    end
  end

  # The ways of Emily to run a model, as functions that give what is to be computed.
  defp load("encoder" <> _ = model) do
    size = Weights.size(model)
    {x, blocks} = size |> Weights.encoder() |> computed()
    forward = Encoder.forward(size)

    given =
      for {name, options} <- ways() do
        forward = compiled(forward, [x, blocks], options)
        {name, fn -> forward.(x, blocks) end}
      end

    copies = copied(blocks)
    held = compiled(&forward.(&1, copies), [x], [])
    [{"held", fn -> held.(x) end} | given]
  end

  defp load("decoder" <> _ = model) do
    size = Weights.size(model)
    {x, caches, blocks} = size |> Weights.decoder() |> computed()
    offset = Nx.tensor(@offset)

    given =
      for {name, options} <- ways(), kind <- [:grouped, :repeated] do
        begin = if kind == :grouped, do: caches, else: Decoder.repeated(caches, size)

        step =
          size
          |> Decoder.step(kind)
          |> compiled([x, offset, Nx.donatable(begin), blocks], options)

        {"#{name} #{kind}", carrying(&step.(x, offset, &1, blocks), begin)}
      end

    {step, copies} = {Decoder.step(size, :grouped), copied(blocks)}
    held = compiled(&step.(&1, &2, &3, copies), [x, offset, Nx.donatable(caches)], [])
    [{"held grouped", carrying(&held.(x, offset, &1), caches)} | given]
  end

  # Each call takes the caches that the last one gave, and may compute in their memory.
  defp carrying(step, caches) do
    key = make_ref()
    # Of their own: what is donated is gone for the others.
    Process.put(key, caches |> Composite.traverse(&Nx.add(&1, 0)) |> computed())

    fn ->
      {out, caches} = key |> Process.get() |> Nx.donatable() |> step.()
      Process.put(key, caches)
      {out, caches}
    end
  end

  defp ways, do: [passes: [], plain: [passes: :none], fused: [fuse: true]]

  defp compiled(fun, arguments, options) do
    template = &%{Nx.to_template(&1) | donatable?: &1.donatable?}
    templates = for argument <- arguments, do: Composite.traverse(argument, template)

    Nx.Defn.compile(
      fun,
      templates,
      [compiler: Emily.Compiler, native_fallback: :raise] ++ options
    )
  end

  # Nx lets functions hold tensors of this backend only.
  defp copied(container),
    do: Composite.traverse(container, &Nx.backend_copy(&1, Nx.BinaryBackend))

  # MLX's operations that are yet to run, and how many of them only look at memory in another way.
  defp operations(container) do
    refs = for tensor <- Composite.flatten_list([container]), do: tensor.data.ref
    counts = Native.graph_operations(refs)
    {views, others} = Enum.split_with(counts, fn {_name, _count, view?} -> view? end)
    sum = fn counts -> Enum.sum_by(counts, &elem(&1, 1)) end
    %{compute: sum.(others), views: sum.(views)}
  end

  # Waits for all leaves.
  defp computed(container) do
    for tensor <- Composite.flatten_list([container]), do: Emily.eval(tensor.data.ref)
    container
  end

  defp beginning({x, _caches}), do: beginning(x)

  defp beginning(x),
    do: x |> Nx.as_type(:f32) |> Nx.flatten() |> Nx.slice([0], [@beginning]) |> Nx.to_list()

  # All of them compute the same.
  defp agree!([{first, numbers} | others], model) do
    [kind, _size] = String.split(model, "-", parts: 2)

    for {name, own} <- others, (distance = distance(numbers, own)) > @tolerance[kind] do
      raise "expected what #{name} gives to agree with #{first}, got a distance of #{distance}"
    end
  end

  # Of two vectors, relative to the first one's length. What has nothing to do with it is at 1.4.
  defp distance(numbers, own) do
    pairs = Enum.zip(numbers, own)
    squares = Enum.sum_by(pairs, fn {one, other} -> (one - other) ** 2 end)
    :math.sqrt(squares / Enum.sum_by(numbers, &(&1 * &1)))
  end
end

IO.puts(Bench.Models.run(System.argv()))
