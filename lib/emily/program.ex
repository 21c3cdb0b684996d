defmodule Emily.Program do
  @moduledoc """
  Functions as files, with their weights: written once, run without tracing, and without Elixir.

      Emily.export(&MyModel.predict/2, [params, Nx.template({1, 784}, :f32)], "mnist")

      predict = Emily.import("mnist")
      predict.(image)

  A program is a folder with the function's graph as JSON and its weights as safetensors. The command
  `emily run mnist --input arg1=image.npy` runs it with no Erlang VM. `guides/program_files.md` documents the
  format and the command.

  A file may come from anywhere: whatever is in it, `import/2` gives a function or raises. It makes no
  atoms unless it is told to.
  """

  alias Emily.Backend
  alias Emily.Backend.Device
  alias Emily.Compiler.{Function, Lowering}
  alias Emily.{Native, Stream}
  alias Emily.Program.{Arguments, Interface}
  alias Nx.Defn.Composite

  # As the core's own.
  @most_steps 100_000_000

  @doc """
  Writes a function with its weights to the folder `path`.

  `arguments` are what the function is called with. An argument of templates (`Nx.template/3`), or a container of
  such, is given by whoever calls the program. An argument of tensors is a weight, and written to the
  file, as are tensors that the function holds. Lists and functions among the arguments are used as they
  are. A program that is there already is replaced.

  Types, shapes, names and vectorized axes stay, and so do tuples and maps whose keys are atoms, strings and
  integers.

  ## Options

    * `:names` - what to call the arguments, in place of `arg0`, `arg1` and so on: a list of atoms or
      strings, one for each. A tensor in a container has its path: `arg0.weights.0`

  ## Examples

      iex> folder = Path.join(System.tmp_dir!(), "emily-#{System.pid()}-doc")
      iex> weights = %{"a" => Nx.tensor([2, 3])}
      iex> scale = fn weights, x -> %{scaled: Nx.multiply(x, weights["a"])} end
      iex> Emily.export(scale, [weights, Nx.template({2}, :s32)], folder)
      :ok
      iex> scale = Emily.import(folder)
      iex> Nx.to_flat_list(scale.(Nx.tensor([10, 100])).scaled)
      [20, 300]
      iex> File.ls!(folder) |> Enum.sort()
      ["program.json", "weights.safetensors"]
      iex> File.rm_rf!(folder) |> length()
      3

  ## Errors

  Raises `ArgumentError` if the function has hooks or calls Elixir (`Nx.Defn.Kernel.hook/2`,
  `Nx.runtime_call/4`), an argument or the result holds a struct, an argument mixes templates and
  tensors, or the folder is there and holds something else; and `Emily.Error` if
  [no program can say](`m:Emily.Compiler#module-what-no-program-can-say`) the function.
  """
  @spec export(function(), [Nx.Container.t() | list() | function()], Path.t(), keyword()) :: :ok
  def export(fun, arguments, path, options \\ []) do
    options = validate!(options, [:names])
    arguments = Arguments.classify!(arguments, options[:names])
    expression = Nx.Defn.debug_expr_apply(fun, Arguments.values(arguments))
    lowered = lower!(expression)
    {interface, weights} = Interface.of(arguments, expression, lowered.inputs)
    device = Stream.device()
    {names, tensors} = Enum.unzip(weights)
    references = for tensor <- tensors, do: Backend.reference(tensor, device)
    reference = make_ref()

    :pending =
      Native.program_write(
        Stream.reference(device),
        folder(path),
        lowered.program,
        JSON.encode!(interface),
        names,
        references,
        reference
      )

    Emily.await(reference)
  end

  @doc """
  Reads a program that `export/4` has written, and returns it as a function.

  The function takes the arguments that were templates, and gives what the exported function gave, as
  tensors of `Emily.Backend`. Nothing is traced or compiled: a call is one call of the native library. The weights are read once, and
  shared by all calls, in all processes.

  ## Options

    * `:device` - where to compute, `:cpu` or `:gpu`; the process' default device when absent
    * `:stream` - an `Emily.Stream` to compute on, in place of the caller's own; its device counts
    * `:keys` - `:existing` keeps keys of maps as strings where there is no such atom, and leaves out such
      names of axes; `:atoms` makes those atoms, for files that you trust; `:existing` when absent
    * `:max_steps` - a call that takes more steps than this fails: operations, and rounds of loops;
      #{@most_steps} when absent

  ## Errors

  Raises `ArgumentError` if there is no program of this version of the format, or one that makes no
  sense: the error says which part of the file is at fault.
  """
  @spec import(Path.t(), keyword()) :: function()
  def import(path, options \\ []) do
    options = validate!(options, [:device, :stream, :max_steps, keys: :existing])
    stream = options[:stream]
    device = if stream, do: stream.device, else: options[:device] || Stream.device()
    steps = options[:max_steps] || @most_steps
    reference = make_ref()
    :pending = Native.program_read(Stream.reference(device), folder(path), steps, reference)
    {program, weights, json} = Emily.await(reference)
    interface = json |> JSON.decode!() |> Interface.read(options[:keys])

    function = %Function{
      program: program,
      inputs: inputs(interface.inputs, weights),
      calls: {},
      output: List.to_tuple(interface.outputs),
      device: device
    }

    Arguments.function(length(interface.arguments), fn arguments ->
      Arguments.check!(interface.arguments, arguments)
      parameters = for leaf <- Interface.leaves(interface, arguments), do: fn -> leaf end
      results = Function.call(function, parameters, stream && stream.ref)
      Composite.traverse(interface.result, &elem(results, &1))
    end)
  end

  defp lower!(expression) do
    flat = Composite.traverse(expression, &Nx.devectorize/1)

    case Lowering.program(flat, %{}) do
      {:ok, %{calls: []} = lowered} ->
        lowered

      {:ok, %{calls: calls}} ->
        raise ArgumentError,
              "expected a function without hooks and calls to Elixir, which no file can hold, got: one with " <>
                Enum.map_join(calls, ", ", &described/1)

      {:error, construct, reason} ->
        raise Emily.Error, reason: "no program can say #{construct}, because #{reason}"
    end
  end

  defp described(%{kind: :hook, fun: fun}), do: "a hook that calls #{inspect(fun)}"
  defp described(%{kind: :runtime_call, fun: fun}), do: "Nx.runtime_call of #{inspect(fun)}"

  defp inputs([{:parameter, _position} = parameter | inputs], weights),
    do: [parameter | inputs(inputs, weights)]

  defp inputs([:weight | inputs], [weight | weights]),
    do: [{:constant, weight} | inputs(inputs, weights)]

  defp inputs([], []), do: []

  defp folder(path), do: path |> IO.chardata_to_string() |> Path.expand()

  defp validate!(options, known) do
    case Keyword.validate(options, known) do
      {:ok, options} ->
        for {key, value} <- options, not valid?(key, value) do
          raise ArgumentError, "expected #{expected(key)}, got: #{inspect(value)}"
        end

        options

      {:error, unknown} ->
        names = for option <- known, do: if(is_tuple(option), do: elem(option, 0), else: option)

        raise ArgumentError,
              "expected the options to be #{Enum.map_join(names, ", ", &inspect/1)}, " <>
                "got: #{Enum.map_join(unknown, ", ", &inspect/1)}"
    end
  end

  defp valid?(:device, device), do: Device.validate!(device) == :ok
  defp valid?(:stream, stream), do: stream == nil or is_struct(stream, Stream)
  defp valid?(:keys, keys), do: keys in [:existing, :atoms]
  defp valid?(:max_steps, steps), do: steps == nil or (is_integer(steps) and steps > 0)
  defp valid?(:names, names), do: names == nil or is_list(names)

  defp expected(:stream), do: ":stream to be an Emily.Stream"
  defp expected(:keys), do: ":keys to be :existing or :atoms"
  defp expected(:max_steps), do: ":max_steps to be a positive integer"
  defp expected(:names), do: ":names to be a list of names"
end
