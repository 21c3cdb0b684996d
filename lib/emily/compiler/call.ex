defmodule Emily.Compiler.Call do
  @moduledoc false
  # A function of Elixir that a program calls: a hook, which gives nothing, or one whose result goes on.

  alias Nx.Defn.Composite

  @enforce_keys [:kind, :fun, :template]
  defstruct [:kind, :fun, :options, :template, :result]

  @type t :: %__MODULE__{
          kind: :hook | :runtime_call,
          fun: function(),
          options: term(),
          template: Nx.Container.t(),
          result: Nx.Container.t() | nil
        }

  @doc "Calls the function; returns the tensors that it gives."
  @spec run(t(), Nx.Container.t()) :: [Nx.Tensor.t()]
  def run(%__MODULE__{kind: :hook} = call, argument) do
    call.fun.(argument)
    []
  end

  def run(%__MODULE__{kind: :runtime_call} = call, argument) do
    result = call.fun.(argument, call.options)

    if not Nx.compatible?(call.result, result) do
      raise ArgumentError,
            "expected the function of Nx.runtime_call to give #{inspect(call.result)}, " <>
              "got: #{inspect(result)}"
    end

    [result] |> Composite.flatten_list() |> Enum.map(&Nx.to_tensor/1)
  end

  @doc "A container like `template` with `data`, which is in the order of its leaves."
  @spec fill(Nx.Container.t(), [struct()]) :: Nx.Container.t()
  def fill(template, data) do
    {container, []} =
      Composite.traverse(template, data, fn out, [data | rest] -> {%{out | data: data}, rest} end)

    container
  end
end
