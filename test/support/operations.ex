defmodule Emily.Test.Operations do
  @moduledoc """
  The native core's operations, read from the enum that is the one list of them.
  """

  @source Path.expand("../../native/core/src/op.rs", __DIR__)
  @attributes Path.expand("../../native/core/src/op/attributes.rs", __DIR__)

  @doc """
  Each operation's name with its attributes: the name and Rust type of each.
  """
  @spec all() :: [{atom(), [{atom(), String.t()}]}]
  def all do
    [_before, enum] = String.split(File.read!(@source), "pub enum Op {\n")
    [variants, _after] = String.split(enum, "\n}\n", parts: 2)
    source = Regex.replace(~r"^\s*///.*\n"m, variants <> "\n", "")

    for [_all, variant | fields] <- Regex.scan(~r/^    ([A-Z]\w+)(?: \{([^}]*)\})?,\n/m, source) do
      {variant |> Macro.underscore() |> String.to_atom(), attributes(fields)}
    end
  end

  @doc """
  The names of a Rust enum's variants, as atoms of Elixir; none if it is no enum of plain names.
  """
  @spec variants(String.t()) :: [atom()]
  def variants(type) do
    case Regex.run(~r/pub enum #{type} \{\n(.*?)\n\}\n/s, File.read!(@attributes)) do
      [_all, body] ->
        for [_all, name] <- Regex.scan(~r/^    (\w+),$/m, body),
            do: name |> Macro.underscore() |> String.to_atom()

      nil ->
        []
    end
  end

  defp attributes([]), do: []

  defp attributes([fields]) do
    for [_all, name, type] <- Regex.scan(~r/(\w+): (.+),$/m, fields),
        do: {String.to_atom(name), type}
  end
end
