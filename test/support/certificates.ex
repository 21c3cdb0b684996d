defmodule Emily.Test.Certificates do
  @moduledoc "A throwaway certificate authority and a certificate for localhost and release.example."

  @subject_alternative_name {2, 5, 29, 17}

  @doc """
  The `:ssl` options of a server, and its authority as PEM.

  `:validity` is the pair of days between which the server's certificate is good, `:hosts` whom it
  is for.
  """
  def new(options \\ []) do
    hosts =
      for host <- Keyword.get(options, :hosts, ~w(localhost release.example)),
          do: {:dNSName, to_charlist(host)}

    names = {:Extension, @subject_alternative_name, false, hosts}
    strong = [digest: :sha256, key: {:namedCurve, :secp256r1}]

    chains = %{
      server_chain: %{
        root: strong,
        intermediates: [],
        peer: strong ++ [extensions: [names]] ++ Keyword.take(options, [:validity])
      },
      client_chain: %{root: strong, intermediates: [], peer: strong}
    }

    %{server_config: server, client_config: client} = :public_key.pkix_test_data(chains)
    authorities = for der <- client[:cacerts], do: {:Certificate, der, :not_encrypted}
    %{server: [log_level: :none] ++ server, authority: :public_key.pem_encode(authorities)}
  end

  @doc "The `:ssl` options of a server whose certificate nobody but itself has signed."
  def self_signed do
    %{cert: certificate, key: key} =
      :public_key.pkix_test_root_cert(~c"itself", digest: :sha256, key: {:namedCurve, :secp256r1})

    [
      log_level: :none,
      cert: certificate,
      key: {:ECPrivateKey, :public_key.der_encode(:ECPrivateKey, key)}
    ]
  end
end
