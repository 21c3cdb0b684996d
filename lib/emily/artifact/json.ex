defmodule Emily.Artifact.Json do
  @moduledoc """
  JSON as strictly as `cargo xtask` reads it, so that both sides say the same of every manifest.

  What JSON's specification leaves open is settled: a name that comes twice in an object is told
  (`duplicates/1`) and not lost, `-0` is no integer, a number that no float can hold is refused, and
  so is nesting deeper than 127.
  """

  @max_depth 127
  # No name of JSON's is an atom.
  @twice :twice

  @doc """
  Decodes a document.

      iex> Emily.Artifact.Json.decode(~s({"a": [1, -0]}))
      {:ok, %{"a" => [1, -0.0]}}

      iex> {:ok, object} = Emily.Artifact.Json.decode(~s({"a": 1, "a": 2}))
      iex> Emily.Artifact.Json.duplicates(object)
      ["a"]

      iex> Emily.Artifact.Json.decode("[1")
      :error
  """
  @spec decode(binary()) :: {:ok, term()} | :error
  def decode(text) do
    with true <- String.valid?(text),
         {value, _acc, rest} <- JSON.decode(minus_zero(text), {0, []}, decoders()),
         true <- blank?(rest) do
      {:ok, value}
    else
      _refused -> :error
    end
  catch
    :refused -> :error
  end

  @doc "The names that came more than once in a decoded object."
  @spec duplicates(map()) :: [String.t()]
  def duplicates(%{} = object), do: Map.get(object, @twice, [])

  # Decoders are not asked about it, so it is written in another way, outside of strings.
  defp minus_zero(text) do
    if String.contains?(text, "-0") do
      Regex.replace(~r/"(?:[^"\\]|\\.)*+"|-0(?![.eE0-9])/s, text, fn
        "-0" -> "-0.0"
        string -> string
      end)
    else
      text
    end
  end

  defp decoders do
    [
      array_start: &deeper/1,
      object_start: &deeper/1,
      array_push: fn value, {depth, items} -> {depth, [value | items]} end,
      object_push: fn name, value, {depth, items} -> {depth, [{name, value} | items]} end,
      array_finish: fn {_depth, items}, outer -> {Enum.reverse(items), outer} end,
      object_finish: fn {_depth, items}, outer -> {object(items), outer} end,
      integer: &integer/1
    ]
  end

  defp deeper({@max_depth, _items}), do: throw(:refused)
  defp deeper({depth, _items}), do: {depth + 1, []}

  defp object(items) do
    object = Map.new(Enum.reverse(items))

    if map_size(object) == length(items) do
      object
    else
      names = Enum.map(items, &elem(&1, 0))
      Map.put(object, @twice, Enum.uniq(names -- Map.keys(object)))
    end
  end

  defp integer(text) do
    number = String.to_integer(text)
    _float = :erlang.float(number)
    number
  rescue
    ArgumentError -> throw(:refused)
  end

  defp blank?(<<byte, rest::binary>>) when byte in ~c" \t\r\n", do: blank?(rest)
  defp blank?(rest), do: rest == ""
end
