defmodule Emily.Compiler do
  @moduledoc """
  Numerical functions as programs of the native core: a call is one call of the native library.

      Nx.Defn.default_options(compiler: Emily.Compiler)

      Nx.Defn.jit(&MyModel.forward/2, compiler: Emily.Compiler)

  The function is traced once for the types and shapes of its arguments, becomes a flat list of the
  operations that `Emily.Backend` has, and runs with no more of Elixir than hooks and `Nx.runtime_call/4`
  ask for. Results are lazy, as those of the backend are. Tensors that the function holds
  are sent once, when it is compiled.

  Arguments that are marked with `Nx.donatable/1` are deallocated by the call, which may compute in their
  memory.

  What is compiled is kept by function, types, shapes and options, for all processes.

  ## Options

    * `:device` - `:cpu` or `:gpu`; the process' default device when absent
    * `:stream` - an `Emily.Stream` to compute on, in place of the process' own; its device counts
    * `:hooks` - functions by the names of hooks, in place of those that the code has
    * `:native` - with `false` `Nx.Defn.Evaluator` calls the backend operation by operation; also
      `config :emily, native: false`
    * `:native_fallback` - what to do with a function that no program can say: `:eval` has
      `Nx.Defn.Evaluator` run it, which emits `[:emily, :compiler, :fallback]`, and `:raise` raises
      `Emily.Error`; `:eval` when absent
    * `:max_concurrency` - how many partitions an `Nx.Serving` has, each with a stream of its own
    * `:fuse` - whether operations on elements are made into one where they follow each other, see
      [below](#module-fused-operations); also `config :emily, fuse: true`, and false when absent
    * `:passes` - what is done to the program before it runs: `:all` (when absent), `:exact` for what changes no
      bit of any result, `:none`, or a list of the names below

  Other options are left alone: libraries such as Axon pass their own ones on. One whose name is nearly one of these
  raises `ArgumentError`, as does a value that the option does not have.

  ## Shards

  `Nx.Defn.shard_jit/3` takes each argument in shards, one list of arguments for each device of an `Nx.Mesh`, and gives a
  list of results, one for each device. The devices of a mesh are logical ones: one device of the machine has all shards, and
  computes the function of whole tensors as one program, whatever the mesh. So a function for many devices gives
  the same on one.

      mesh = %Nx.Mesh{name: "mesh", shape: {2}}
      options = [compiler: Emily.Compiler, input_shardings: [%{0 => [0]}]]
      [first, second] = Nx.Defn.shard_jit(&Nx.cumulative_sum/1, mesh, options).([[one], [other]])

    * `:input_shardings` - for each argument a map of its axes, by number or name, to lists of axes of the mesh among which
      they are divided; of other axes each shard has the whole. Required
    * `:output_shardings` - the same for each tensor that the function gives. When absent, results are divided as follows
      from their shapes: along the axis that is as much smaller as those of the arguments are. What follows from no
      shape is whole on all devices

  ## Passes

  None of them changes a bit of any result but those that say so. They go over the programs in `cond` and `while`, too, in this
  order, and again as long as there is something to do. `explain/3` shows what they make of a function.

    * `:constants` - what is known of integers when the function is compiled is computed then, scalars of known
      numbers take their shape and type, and of a `cond` whose predicate is known one branch is left. What depends on no
      argument, such as a table of positions, is computed in the first call and kept, up to 64 MiB of it
    * `:identities` - what gives what it is given is left out, such as a reshape to the same shape; for floats that
      is not so of `x + 0` and `x * 1`
    * `:loop_invariants` - what a `while` computes in each round from what stays the same is computed once before it,
      unless it might raise; what it carries and never changes is not carried
    * `:common_subexpressions` - what is computed twice is computed once
    * `:attention` - `softmax(query · key * scale + mask) · value` is one operation
    * `:layer_norm` - `(x - mean(x)) / sqrt(variance(x) + epsilon) * gamma + beta` along the last axis is one operation
    * `:rms_norm` - `x / sqrt(mean(x ** 2) + epsilon) * gamma` along the last axis is one operation
    * `:rotary_embedding` - `x * cos + turned(x) * sin`, where the second half of the last axis, negated, comes before the
      first in `turned`, is one operation, with an RMS norm of `x` if there is one
    * `:softmax` - `exp(x - max(x)) / sum(exp(x - max(x)))` along the last axis is one operation
    * `:activation` - SiLU, GELU and its approximation with tanh, with what they are multiplied with in gated layers,
      are one operation
    * `:quantized_matmul` - `Nx.dot/4` with what `Emily.Quantization.dequantize/1` gives, transposed or not, is one operation,
      `Emily.Quantization.quantized_matmul/3` with `exact: false`, unless the matrix is needed elsewhere
    * `:dot_add` - a product and what is added to it, such as a bias, are one operation
    * `:projections` - products of one tensor with several matrices, as a layer's projections are, become one product
      with all of them beside each other. They are joined once, in a copy that may take up to a quarter of the memory,
      when a call comes with the same matrices as the one before it; in training, where they change, they are left
      alone. Sums may be made in another order, which changes last digits
    * `:dead_code` - what no result depends on is not computed, nor carried through a `while`, nor taken into a branch;
      errors that it would have raised are not raised. Hooks and calls are all made, in their order

  ### Patterns

  The passes from `:attention` to `:dot_add` find what layers of Axon and Bumblebee, and formulas like theirs, become: of
  `{:f, 32}`, `{:f, 16}` and `{:bf, 16}`, however products and sums are ordered, with a root and a division or the inverse
  of a root, with kept axes or new ones. What is needed elsewhere, too, such as weights of attention that are a result,
  stays computed, and with it what it is made from.

  For attention heads may come before positions or after them, and there may be none; the scale may be that of the scores
  or of the query. Masks are added, or chosen where scores are replaced by a number below -1.0e4, which is added then. Heads
  of keys and values that are repeated for several of the query are not repeated. A query that may look nowhere gets some
  mean of the values, as without the pattern, though not the same one, and NaN if it is masked by infinities.

  The operations in their place compute in 32 bits and round once, where the single ones round each time. What one of
  them gives differs from that by at most `tolerance * (1 + abs(x))`, where the tolerance is 1.0e-5 for f32, 0.006 for
  f16 and 0.05 for bf16. Where single operations overflow, it may be a number in place of NaN. Tensors of `{:f, 64}`
  are left alone, and so are operations that `Emily.Debug` checks.

  ## Fused operations

  With `fuse: true` operations that go element by element, and conversions and broadcasts among them, become one operation
  where each takes the result of the one before: the elements are read and written once, and MLX has fewer operations to
  begin. The stretches of the function between `while`, `cond`, hooks and calls are fused, and those inside of loops and
  branches, each for itself. `explain/3` counts MLX's operations before and after.

      Nx.Defn.jit(&MyModel.forward/2, compiler: Emily.Compiler, fuse: true)

  On a GPU the device's driver compiles what comes of it, as for MLX's own `compile`. On the CPU a C++ compiler does: `g++`,
  or what `EMILY_CXX` or `config :emily, cxx: "clang++"` names. It runs once for all of a function, when that is first called
  on a stream, and takes a second or so for a few hundred operations. The process that called waits, and nobody else does:
  neither a scheduler nor a stream. What it makes is kept in `kernels/` in Emily's cache folder, also for the next VM, and is
  the same for all shapes. Nothing is changed about how the VM handles signals.

  Where there is no compiler, or it fails, the function runs operation by operation as without the option, and
  `[:emily, :compiler, :unfused]` says why, once. `mix emily.doctor` tells which compiler there is.

  Results may differ from unfused ones:

    * on the CPU they have the same bits, but for the sign of NaN, where MLX was compiled without contraction, as it is for
      x86-64; tests hold random functions, all types and gradients to that. A compiler for
      other processors may have contracted MLX's own products and sums to one instruction, which rounds once; then they
      differ by a unit or two in the last place of each operation
    * sums over elements may be taken in another order, because a fused result may lie in memory in the order of its input
    * on GPUs products and sums are contracted, and functions such as `exp` are as near as the device has them

  ## What no program can say

    * tensors of `{:c, 128}`, which MLX does not have
    * conditions, loops and functions of reductions that lie more than 14 deep in each other: they are read
      and run on stacks of a fixed size

  Either, anywhere in a function, sends all of it to the evaluator, or is refused; see `:native_fallback`.

  ## Reductions with functions

  The function of `Nx.reduce/4` and `Nx.window_reduce/5` runs on all elements at once if it is made of elementwise
  operations on scalars. Any other function is called in a loop, which for functions with a `while`, or with tensors of
  their own, goes through the reduced elements and takes all others at once. A function that sorts or indexes, or calls
  Elixir, is called for one element after another, in their order.
  """

  @behaviour Nx.Defn.Compiler

  alias Emily.Backend.Device
  alias Emily.Compiler.{Cache, Explanation, Function, Kernels, Lowering, Sharding}
  alias Emily.{Native, Settings, Stream, Telemetry}
  alias Nx.Defn.{Composite, Evaluator}

  @options [
    :device,
    :stream,
    :hooks,
    :native,
    :native_fallback,
    :max_concurrency,
    :passes,
    :fuse
  ]

  @doc """
  What becomes of a function: its program before the passes and after them.

  `arguments` are tensors, templates or containers of them; nothing is computed. Returns text.

  ## Options

    * `:format` - `:text` (when absent), or `:mermaid` for a flowchart that Livebook, GitHub and others draw
    * `:passes` and `:hooks` - as those of the compiler
    * `:fuse` - with `true` a line says how many of MLX's operations are left when they are fused on this process' device

  In the text each value has a number and its type and shape. A program's inputs come first; the programs of a `cond` or
  `while` have numbers of their own, and what they take is what the instruction is given, in order.

  ## Examples

      iex> fun = fn x -> Nx.divide(Nx.exp(x), Nx.sum(Nx.exp(x))) end
      iex> text = Emily.Compiler.explain(fun, [Nx.template({3}, :f32)])
      iex> text |> String.split("\\n") |> Enum.take(4)
      [
        "before: 4 operations (2 exp, 1 divide, 1 sum)",
        "after: 1 operation (1 softmax)",
        "passes: common_subexpressions 1",
        "patterns: softmax 1"
      ]

      iex> text = Emily.Compiler.explain(&Nx.sin/1, [Nx.template({}, :f32)], format: :mermaid)
      iex> text |> String.split("\\n") |> hd()
      "flowchart TD"

  The whole of the first text:

      before: 4 operations (2 exp, 1 divide, 1 sum)
      after: 1 operation (1 softmax)
      passes: common_subexpressions 1
      patterns: softmax 1

      before
        %0 f32[3] parameter 0
        %1 f32[3] = exp %0
        %2 f32[3] = exp %0
        %3 f32 = sum %2, axes: nil, keep_axes: false
        %4 f32[3] = divide %1, %3
        gives %4

      after
        %0 f32[3] parameter 0
        %1 f32[3] = softmax %0
        gives %1

  Raises `Emily.Error` for a function that no program can say, and `ArgumentError` for other options.
  """
  @spec explain(function(), [Nx.Container.t() | Nx.Tensor.t() | number()], keyword()) ::
          String.t()
  def explain(fun, arguments, options \\ []) when is_function(fun) and is_list(arguments) do
    {format, options} = Keyword.pop(options, :format, :text)

    if format not in [:text, :mermaid],
      do:
        raise(ArgumentError, "expected :format to be :text or :mermaid, got: #{inspect(format)}")

    options = validate!(options)
    expression = Nx.Defn.debug_expr_apply(fun, arguments)
    flat = Composite.traverse(expression, &Nx.devectorize/1)

    stream = if options[:fuse], do: Stream.reference(device(options))

    case Lowering.program(flat, Map.get(options, :hooks, %{})) do
      {:ok, lowered} ->
        lowered |> Explanation.new(passes(options), stream) |> Explanation.render(format)

      {:error, construct, reason} ->
        refuse(construct, reason)
    end
  end

  @impl true
  def __partitions_options__(options) do
    case validate!(options) do
      %{max_concurrency: count} = options when count > 1 and not is_map_key(options, :stream) ->
        device = device(options)
        for _ <- 1..count, do: Map.to_list(Map.put(options, :stream, Stream.new(device)))

      options ->
        List.duplicate(Map.to_list(options), Map.get(options, :max_concurrency, 1))
    end
  end

  @impl true
  def __to_backend__(options) do
    options = validate!(options)
    {Emily.Backend, device: device(options)}
  end

  @impl true
  def __jit__(key, vars, fun, args_list, options) do
    {options, others} = divided(options)
    compiled = kept(key, vars, {options, others}, fn -> compile(vars, fun, options) end)
    for arguments <- args_list, do: call(compiled, arguments, options)
  end

  @impl true
  def __shard_jit__(key, mesh, vars, fun, args_list, options) do
    sharding = Sharding.new(mesh, vars, options)
    {options, others} = divided(options)
    arguments = Sharding.arguments(sharding, vars, args_list)

    compiled =
      kept({key, sharding}, vars, {options, others}, fn ->
        sharding
        |> Sharding.parameters(vars)
        |> compile(Sharding.wrap(sharding, fun), options)
      end)

    compiled |> call(arguments, options) |> Tuple.to_list()
  end

  @impl true
  def __compile__(key, vars, fun, options) do
    options = validate!(options)
    compiled = kept(key, vars, {options, []}, fn -> compile(vars, fun, options) end)
    fn args_list -> for arguments <- args_list, do: call(compiled, arguments, options) end
  end

  # The traced function has other parameters each time; what it was made for is in their types. To look
  # at other options' names takes longer than a small function does, and so is not done for each call.
  defp kept(key, vars, {options, others}, make) do
    templates = Enum.map(vars, &Composite.traverse(&1, fn var -> Nx.to_template(var) end))
    what = Map.take(options, [:hooks, :native_fallback, :passes])
    flags = {native?(options), fuse?(options)}

    Cache.fetch({key, templates, device(options), flags, what, others}, fn ->
      Enum.each(others, &check_name!/1)
      make.()
    end)
  end

  # The configuration may change from one call to the next.
  defp native?(options), do: Map.get_lazy(options, :native, fn -> Settings.flag(:native) end)
  defp fuse?(options), do: Map.get_lazy(options, :fuse, fn -> Settings.flag(:fuse) end)

  defp compile(vars, fun, options) do
    if native?(options), do: native(vars, fun, options), else: evaluated(vars, fun, options)
  end

  defp native(vars, fun, options) do
    hooks = Map.get(options, :hooks, %{})

    case Function.new(fun.(vars), device(options), hooks, passes(options), fusion(options)) do
      {:ok, function} ->
        function

      {:error, construct, reason} ->
        if Map.get(options, :native_fallback, :eval) == :raise, do: refuse(construct, reason)

        Telemetry.compiler_fallback(construct, reason)
        evaluated(vars, fun, options)
    end
  end

  defp refuse(construct, reason),
    do: raise(Emily.Error, reason: "no program can say #{construct}, because #{reason}")

  defp passes(options) do
    case Map.get(options, :passes, :all) do
      :all -> Native.program_passes()
      :exact -> Native.program_exact_passes()
      :none -> []
      names -> names
    end
  end

  # What makes kernels, and where they are kept.
  defp fusion(options) do
    if fuse?(options) do
      settings = Settings.load()
      {settings.cxx, Kernels.folder(settings)}
    end
  end

  defp evaluated(vars, fun, options) do
    hooks = Map.get(options, :hooks, %{})
    Evaluator.__compile__(nil, vars, fun, hooks: hooks)
  end

  defp call(%Function{} = function, arguments, %{stream: %Stream{ref: stream}}),
    do: Function.call(function, arguments, stream)

  defp call(%Function{} = function, arguments, _options),
    do: Function.call(function, arguments, nil)

  defp call(evaluated, arguments, _options) do
    [result] = evaluated.([arguments])
    result
  end

  defp device(%{stream: %Stream{device: device}}), do: device
  defp device(options), do: Map.get_lazy(options, :device, &Stream.device/0)

  defp validate!(options) do
    {options, others} = divided(options)
    Enum.each(others, &check_name!/1)
    options
  end

  # The options, and the names of those that are none of ours.
  defp divided(options) do
    {options, others} = Keyword.split(options, @options)

    for {key, value} <- options, not valid?(key, value) do
      raise ArgumentError, "expected #{expected(key)}, got: #{inspect(value)}"
    end

    # As in all keyword lists, the first of two with the same name counts.
    {options |> Enum.reverse() |> Map.new(), Keyword.keys(others)}
  end

  # How much alike two names are when one of them is a mistake; 1.0 if they are the same.
  @alike 0.8

  defp check_name!(key) do
    near = &String.jaro_distance(to_string(&1), to_string(key))
    nearest = Enum.max_by(@options, near)

    if near.(nearest) > @alike do
      raise ArgumentError,
            "expected an option of Emily.Compiler, such as #{inspect(nearest)}, got: #{inspect(key)}"
    end
  end

  defp valid?(:device, device), do: Device.validate!(device) == :ok and device != nil
  defp valid?(:stream, stream), do: is_struct(stream, Stream)

  defp valid?(:hooks, hooks) when is_map(hooks),
    do: Enum.all?(hooks, fn {name, hook} -> is_atom(name) and is_function(hook, 1) end)

  defp valid?(:hooks, _hooks), do: false
  defp valid?(:native, native), do: is_boolean(native)
  defp valid?(:fuse, fuse), do: is_boolean(fuse)
  defp valid?(:native_fallback, policy), do: policy in [:eval, :raise]
  defp valid?(:max_concurrency, count), do: is_integer(count) and count > 0
  defp valid?(:passes, passes) when is_list(passes), do: passes -- Native.program_passes() == []
  defp valid?(:passes, passes), do: passes in [:all, :exact, :none]

  defp expected(:device), do: ":device to be :cpu or :gpu"
  defp expected(:stream), do: ":stream to be an Emily.Stream"
  defp expected(:hooks), do: ":hooks to be a map of names to functions of one argument"
  defp expected(:native), do: ":native to be true or false"
  defp expected(:fuse), do: ":fuse to be true or false"
  defp expected(:native_fallback), do: ":native_fallback to be :eval or :raise"
  defp expected(:max_concurrency), do: ":max_concurrency to be a positive integer"

  defp expected(:passes) do
    names = Enum.map_join(Native.program_passes(), ", ", &inspect/1)
    ":passes to be :all, :exact, :none or a list of #{names}"
  end
end
