defmodule Emily.Test.Examples do
  @moduledoc """
  Runs the examples in another library's documentation one by one, as `ExUnit.DocTest` does, with a
  choice for each: to be printed digit by digit as documented, or with numbers that are close.
  """

  @number ~r/[-+]?\d+\.\d+(?:e[-+]?\d+)?/

  # How far numbers of a type may be from what is documented: of the number, and at least.
  @tolerances [
    {~r/\b(f64|c128)\b/, 1.0e-12, 1.0e-12},
    {~r/\b(f16|bf16|f8)/, 1.0e-2, 1.0e-2},
    {~r//, 1.0e-4, 1.0e-5}
  ]

  @doc """
  The examples of a function: each a list of `{code, expected}`, where nothing is expected of a step
  that only prepares.
  """
  @spec of(module(), atom(), arity()) :: [[{String.t(), String.t() | nil}]]
  def of(module, name, arity) do
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(module)

    {_, _, _, %{"en" => text}, _} =
      Enum.find(docs, fn {{kind, found, of}, _, _, _, _} ->
        kind in [:function, :macro] and {found, of} == {name, arity}
      end)

    text
    |> String.split("\n")
    |> Enum.map(&String.trim_trailing/1)
    |> Enum.chunk_while([], &step/2, &{:cont, Enum.reverse(&1), []})
    |> Enum.reject(&(&1 == []))
  end

  # A blank line ends an example; what follows it belongs to the next one, or is prose.
  defp step(line, steps) do
    case {String.trim_leading(line), steps} do
      {"iex>" <> code, steps} -> {:cont, [{String.trim(code), nil} | steps]}
      {"...>" <> code, [{begun, nil} | steps]} -> {:cont, [{begun <> "\n" <> code, nil} | steps]}
      {_text, []} -> {:cont, []}
      {"", steps} -> {:cont, Enum.reverse(steps), []}
      {_text, [{code, nil} | steps]} -> {:cont, [{code, indented(line)} | steps]}
      {_text, [{code, text} | steps]} -> {:cont, [{code, text <> "\n" <> indented(line)} | steps]}
    end
  end

  defp indented(line), do: String.replace_prefix(line, "    ", "")

  @doc """
  Runs an example; each step that expects something gives `{documented, actual}` as text.
  """
  @spec run([{String.t(), String.t() | nil}]) :: [{String.t(), String.t()}]
  def run(steps) do
    code =
      Enum.map_join(steps, "\n", fn
        {code, nil} -> code
        {code, _expected} -> "emily_found = [(\n#{code}\n) | emily_found]"
      end)

    {found, binding} = Code.eval_string("emily_found = []\n#{code}\nemily_found")
    expected = for {_code, text} <- steps, text, do: text
    expected |> Enum.zip(Enum.reverse(found)) |> Enum.map(&texts(&1, binding))
  rescue
    error -> [{steps |> List.last() |> elem(1), raised(error)}]
  end

  defp raised(error), do: "** (#{inspect(error.__struct__)}) #{Exception.message(error)}"

  defp texts({"#" <> _ = documented, value}, _binding), do: {documented, inspect(value)}

  defp texts({documented, value}, binding) do
    {expected, _binding} = Code.eval_string(documented, binding)
    {inspect(expected), inspect(value)}
  end

  @doc """
  Whether two texts differ in nothing but numbers, and these by no more than `tolerance`, or what
  their type leaves to rounding.
  """
  @spec close?(String.t(), String.t(), float() | nil) :: boolean()
  def close?(documented, actual, tolerance \\ nil) do
    {_type, relative, absolute} =
      Enum.find(@tolerances, fn {type, _, _} -> documented =~ type end)

    relative = tolerance || relative

    Regex.split(@number, documented) == Regex.split(@number, actual) and
      all_near?(numbers(documented), numbers(actual), &(relative * abs(&1) + absolute))
  end

  defp all_near?(expected, actual, tolerance) do
    length(expected) == length(actual) and
      Enum.zip(expected, actual) |> Enum.all?(fn {a, b} -> abs(a - b) <= tolerance.(a) end)
  end

  defp numbers(text) do
    for [number] <- Regex.scan(@number, text),
        do: number |> String.trim_leading("+") |> String.to_float()
  end
end
