defmodule Emily.Test.Guide do
  @moduledoc """
  Runs a guide: the `elixir` blocks of a Markdown file, from first to last, with one binding.

  What a comment `#=>` shows is checked against the value of the expression before it:

      1 + 1
      #=> 2

      Nx.tensor([1, 2])
      #=> #Nx.Tensor<
      #=>   s32[2]
      #=>   [1, 2]
      #=> >

      {:ok, self()}
      #=> {:ok, _pid}

      raise "no"
      #=> ** (RuntimeError) no

  What starts with `#` is compared with what `inspect/1` writes, and numbers may differ in their last
  digits. Everything else is a pattern. A comment behind code is not shown, and not checked.
  """

  alias Emily.Test.Examples

  @typedoc "Code with the line that it begins on, and what is shown of its value."
  @type step :: {pos_integer(), String.t(), String.t() | nil}

  @doc "The steps of a guide's blocks, in order."
  @spec steps(String.t()) :: [step()]
  def steps(markdown) do
    markdown
    |> String.split("\n")
    |> Enum.with_index(1)
    |> blocks()
    |> Enum.flat_map(&split/1)
  end

  # The lines of each block, with their numbers.
  defp blocks(lines) do
    case Enum.drop_while(lines, fn {line, _at} -> String.trim(line) != "```elixir" end) do
      [] ->
        []

      [_fence | rest] ->
        {block, rest} = Enum.split_while(rest, fn {line, _at} -> String.trim(line) != "```" end)
        [block | blocks(rest)]
    end
  end

  defp split([]), do: []

  defp split(block) do
    {code, rest} = Enum.split_while(block, &(not shown?(&1)))
    {shown, rest} = Enum.split_while(rest, &shown?/1)
    step(code, shown) ++ split(rest)
  end

  defp shown?({line, _at}), do: line =~ ~r/^\s*#=>/

  defp step(code, shown) do
    case Enum.drop_while(code, fn {line, _at} -> String.trim(line) == "" end) do
      [] when shown == [] -> []
      [{_line, at} | _rest] = code -> [{at, text(code), shown(shown)}]
    end
  end

  defp shown([]), do: nil
  defp shown(lines), do: lines |> text() |> String.replace(~r/^\s*#=> ?/m, "")

  defp text(lines), do: Enum.map_join(lines, "\n", &elem(&1, 0))

  @doc """
  Runs a guide, and returns how many values were checked.

  Raises `ExUnit.AssertionError`, with the file and the line, where a value is not what is shown.
  """
  @spec run(Path.t()) :: non_neg_integer()
  def run(path), do: path |> File.read!() |> run(path)

  @doc "Runs a guide's text; `path` is what failures call it."
  @spec run(String.t(), Path.t()) :: non_neg_integer()
  def run(markdown, path) do
    steps = steps(markdown)
    start = {[], Code.env_for_eval(file: path)}
    Enum.reduce(steps, start, &take(&1, &2, path))
    Enum.count(steps, fn {_at, _code, shown} -> shown end)
  end

  defp take({at, code, "** (" <> _ = shown}, {binding, env} = state, path) do
    raised =
      try do
        eval(code, at, binding, env)
        "no exception"
      rescue
        error -> "** (#{inspect(error.__struct__)}) #{Exception.message(error)}"
      end

    if raised != shown, do: fail(path, at, code, shown, raised)
    state
  end

  defp take({at, code, shown}, {binding, env}, path) do
    {value, binding, env} = eval(code, at, binding, env)

    unless shown == nil or as_shown?(shown, value, env),
      do: fail(path, at, code, shown, inspect(value, pretty: true))

    {binding, env}
  end

  defp eval(code, at, binding, env) do
    quoted = Code.string_to_quoted!(code, file: env.file, line: at)
    Code.eval_quoted_with_env(quoted, binding, %{env | line: at})
  end

  defp as_shown?("#" <> _ = shown, value, _env),
    do: Examples.close?(shown, inspect(value, pretty: true))

  defp as_shown?(shown, value, env) do
    pattern = Code.string_to_quoted!(shown)

    matches? = quote(do: match?(unquote(pattern), var!(found)))
    {matches?, _binding} = Code.eval_quoted(matches?, [found: value], env)
    matches?
  end

  defp fail(path, at, code, shown, got) do
    raise ExUnit.AssertionError,
      message: """
      #{path}:#{at} shows another value than its code gives
      #{code}
      shown: #{shown}
      got:   #{got}\
      """
  end
end
