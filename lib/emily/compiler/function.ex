defmodule Emily.Compiler.Function do
  @moduledoc false
  # A function of `Nx.Defn` as a program of the native core, to be called as often as one likes.

  alias Emily.Backend
  alias Emily.Compiler.{Call, Lowering}
  alias Emily.{Native, Stream, Telemetry}
  alias Nx.Defn.Composite
  alias Nx.Tensor, as: T

  @enforce_keys [:program, :inputs, :calls, :output, :device]
  defstruct [:program, :inputs, :calls, :output, :device]

  @type t :: %__MODULE__{
          program: reference(),
          inputs: [{:parameter, non_neg_integer()} | {:constant, Emily.t()}],
          calls: tuple(),
          output: Nx.Container.t(),
          device: :cpu | :gpu
        }

  @doc """
  The function that gives `expression`, computed on `device`; `hooks` are callbacks by name, `passes`
  go over the program, and `fusion` is as `Emily.Native.program_new/3` has it.
  """
  @spec new(Nx.Container.t(), :cpu | :gpu, map(), [atom()], {String.t(), Path.t()} | nil) ::
          {:ok, t()} | {:error, atom(), String.t()}
  def new(expression, device, hooks, passes, fusion) do
    flat = Composite.traverse(expression, &Nx.devectorize/1)

    with {:ok, lowered} <- Lowering.program(flat, hooks) do
      {:ok,
       %__MODULE__{
         program: Native.program_new(lowered.program, passes, fusion),
         inputs: Enum.map(lowered.inputs, &held(&1, device)),
         calls: List.to_tuple(lowered.calls),
         output: Composite.traverse(expression, &%{Nx.to_template(&1) | donatable?: false}),
         device: device
       }}
    end
  end

  # The function keeps its own tensors where they are used.
  defp held({:constant, tensor}, device), do: {:constant, Backend.reference(tensor, device)}
  defp held(parameter, _device), do: parameter

  @doc "Calls the function; `parameters` are functions that give its tensors."
  @spec call(t(), [(-> T.t())], reference() | nil) :: Nx.Container.t()
  def call(%__MODULE__{} = function, parameters, stream) do
    parameters = List.to_tuple(parameters)
    {inputs, donated} = inputs(function.inputs, parameters, function.device)
    stream = stream || Stream.reference(function.device)
    reference = make_ref()
    answer = Native.program_run(function.program, stream, inputs, donated, reference)
    filled(function.output, follow(answer, reference, function), function)
  end

  # What the program takes, and what of that nobody needs afterwards.
  defp inputs([], _parameters, _device), do: {[], []}

  defp inputs([{:constant, ref} | inputs], parameters, device) do
    {refs, donated} = inputs(inputs, parameters, device)
    {[ref | refs], donated}
  end

  defp inputs([{:parameter, position} | inputs], parameters, device) do
    tensor = elem(parameters, position).()
    ref = given(tensor, device)
    {refs, donated} = inputs(inputs, parameters, device)
    {[ref | refs], if(tensor.donatable?, do: [ref | donated], else: donated)}
  end

  defp given(%T{data: %Nx.Defn.Expr{}} = tensor, _device) do
    raise ArgumentError,
          "cannot pass a tensor expression as argument to defn, got: #{inspect(tensor)}"
  end

  defp given(%T{} = tensor, device), do: Backend.reference(tensor, device)

  defp filled(template, refs, function) do
    tensors = for ref <- refs, do: %Backend{ref: ref, device: function.device}
    Call.fill(template, tensors)
  end

  defp follow({:done, outputs}, _reference, _function), do: outputs

  defp follow(:pending, reference, function),
    do: reference |> Emily.await() |> follow(reference, function)

  defp follow({:busy, replay}, reference, function),
    do: replay |> Native.program_go_on(reference) |> follow(reference, function)

  defp follow({:prepared, reason, replay}, reference, function) do
    if reason, do: Telemetry.unfused(reason, function.device)
    follow({:busy, replay}, reference, function)
  end

  defp follow({:call, number, inputs, replay}, reference, function) do
    call = elem(function.calls, number)
    argument = filled(call.template, inputs, function)
    results = for tensor <- Call.run(call, argument), do: given(tensor, function.device)
    replay |> Native.program_resume(results, reference) |> follow(reference, function)
  end
end
