defmodule Emily.Test.Certificates do
  @moduledoc "A throwaway certificate authority and a certificate for localhost and release.example."

  @subject_alternative_name {2, 5, 29, 17}

  @doc "The `:ssl` options of a server, and its authority as PEM."
  def new do
    hosts = [dNSName: ~c"localhost", dNSName: ~c"release.example"]
    names = {:Extension, @subject_alternative_name, false, hosts}
    strong = [digest: :sha256, key: {:namedCurve, :secp256r1}]

    chains = %{
      server_chain: %{root: strong, intermediates: [], peer: strong ++ [extensions: [names]]},
      client_chain: %{root: strong, intermediates: [], peer: strong}
    }

    %{server_config: server, client_config: client} = :public_key.pkix_test_data(chains)
    authorities = for der <- client[:cacerts], do: {:Certificate, der, :not_encrypted}
    %{server: [log_level: :none] ++ server, authority: :public_key.pem_encode(authorities)}
  end
end
