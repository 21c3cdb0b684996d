defmodule Emily.Test.Certificates do
  @moduledoc "A throwaway certificate authority and a certificate for localhost."

  @subject_alternative_name {2, 5, 29, 17}

  @doc "The `:ssl` options of a server, and its authority as PEM."
  def new do
    names = {:Extension, @subject_alternative_name, false, [dNSName: ~c"localhost"]}
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
