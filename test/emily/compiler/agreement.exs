Code.require_file("drawn_function.exs", __DIR__)

defmodule Emily.Compiler.Agreement do
  @moduledoc """
  Whether drawn functions give, compiled, what the evaluator gives on the same backend, bit by bit.
  """

  import ExUnit.Assertions

  alias Emily.Compiler.DrawnFunction
  alias Nx.Defn.{Composite, Evaluator}

  @doc """
  Fails unless the function agrees; `:refused` if the evaluator raises, or what was drawn lies too deep in
  each other to be compiled, or has `{:c, 128}` in a branch that is not taken, which says nothing.

  The evaluator computes some values more than once, and others not at all, where the branch of a `cond`
  that needs them is not taken. So hooks count as called for as soon as compiled ones are called for the
  same.

  `options` are the compiler's.
  """
  @spec check(%DrawnFunction{}, keyword()) :: :same | :refused
  def check(drawn, options \\ []) do
    with {:ok, expected, told} <- result(drawn, compiler: Evaluator),
         {:ok, actual, heard} <- compiled(drawn, options) do
      if actual != expected, do: flunk(said(drawn, expected, actual))
      if Enum.uniq(told) -- heard != [], do: flunk(said(drawn, {:hooks, told}, {:hooks, heard}))
      :same
    else
      {:error, _error, _stacktrace} -> :refused
    end
  end

  defp compiled(drawn, options) do
    options = [compiler: Emily.Compiler, native_fallback: :raise, passes: :exact] ++ options

    with {:error, error, stacktrace} = failure <- result(drawn, options) do
      if Exception.message(error) =~ ~r/deep in others|and not {:c, 128}/,
        do: failure,
        else: flunk(said(drawn, :a_result, Exception.format(:error, error, stacktrace)))
    end
  end

  # Every leaf with its template and its bits, and what hooks were called with.
  defp result(drawn, options) do
    arguments = [Nx.backend_copy(drawn.arguments, Emily.Backend)]
    hooks = %{named: &DrawnFunction.hook/1}
    result = Nx.Defn.jit_apply(drawn.fun, arguments, [hooks: hooks] ++ options)
    bits = for t <- Composite.flatten_list([result]), do: Nx.to_binary(t)
    {:ok, {Composite.traverse(result, &Nx.to_template/1), bits}, DrawnFunction.hooked()}
  rescue
    error ->
      DrawnFunction.hooked()
      {:error, error, __STACKTRACE__}
  end

  defp said(drawn, expected, actual) do
    "seed #{drawn.seed}\n#{DrawnFunction.text()}\n" <>
      "expected: #{inspect(expected, limit: 200)}\ngot: #{inspect(actual, limit: 200, printable_limit: 1000)}"
  end
end
