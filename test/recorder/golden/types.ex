defmodule Emily.Golden.Types do
  @moduledoc """
  What `Nx.Type` says of each type, and of each type together with each other one.

  A line of `types.json` is a JSON object:

    * `type`, `kind` and `bits`: Nx's name of the type and what it is made of;
    * `to_floating`, `to_real` and `to_aggregate`: the functions' results;
    * `merge`: the result for each second type.

  `c128`, which MLX does not have, appears among results alone.
  """

  alias Emily.Golden.Case

  @doc "The lines of the file."
  def table, do: Enum.map(Case.types(), &line/1)

  defp line({kind, bits} = type) do
    merged = for other <- Case.types(), do: {name(other), name(Nx.Type.merge(type, other))}

    fields = [
      type: name(type),
      kind: kind,
      bits: bits,
      to_floating: name(Nx.Type.to_floating(type)),
      to_real: name(Nx.Type.to_real(type)),
      to_aggregate: name(Nx.Type.to_aggregate(type)),
      merge: {:pairs, merged}
    ]

    [:json.encode_key_value_list(fields, &encode/2), ?\n]
  end

  defp encode({:pairs, pairs}, encoder), do: :json.encode_key_value_list(pairs, encoder)
  defp encode(other, encoder), do: JSON.protocol_encode(other, encoder)

  defp name(type), do: Nx.Type.to_string(type)
end
