defmodule Emily.Reducer.Tracer do
  @moduledoc false
  # A backend that notes which operations a function asks for, and computes none.
  #
  # `Nx.Defn.Expr` is one too, but `Nx.Defn.Evaluator` refuses expressions as the arguments of the
  # functions that it makes of a defn's.

  @behaviour Nx.Backend

  alias Nx.Tensor, as: T

  @enforce_keys [:id, :op, :args]
  defstruct [:id, :op, :args]

  @doc "The parameter at `position`, a scalar of `type`."
  def parameter(type, position),
    do: node(%T{type: type, shape: {}, names: []}, :parameter, [position])

  @impl true
  def constant(out, number, _options), do: node(out, :constant, [number])

  @impl true
  def block(block, %T{} = out, arguments, fun),
    do: node(out, :block, [block, arguments, nil, fun])

  def block(block, _outs, _arguments, _fun), do: untraceable(inspect(block.__struct__))

  @values ~w(init from_binary backend_deallocate backend_copy backend_transfer to_batched to_binary
             inspect from_pointer to_pointer)a

  for {name, arity} <- Nx.Backend.behaviour_info(:callbacks), name not in [:constant, :block] do
    arguments = Macro.generate_arguments(arity, __MODULE__)

    @impl true
    if name in @values do
      def unquote(name)(unquote_splicing(arguments)) do
        _ = unquote(arguments)
        untraceable("#{unquote(name)}, which needs values")
      end
    else
      def unquote(name)(out, unquote_splicing(tl(arguments))),
        do: node(out, unquote(name), unquote(tl(arguments)))
    end
  end

  defp node(out, op, args),
    do: %{out | data: %__MODULE__{id: make_ref(), op: op, args: args}}

  defp untraceable(what), do: throw({:untraceable, what})
end
